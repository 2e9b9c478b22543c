"""The word error rates of the README: `avsr bench` on GRID, in babble of voices that no model was trained with.

python benchmarks/noise.py --split test -o runs/test    any other option of `avsr bench` goes on to it
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from avsr.cli import main as avsr


def main() -> None:
    """Fill in what the README's figures were measured with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="corpora: grid.tsv and speech.tsv")
    parser.add_argument("--split", default="test", help="dev, test or unseen")
    parser.add_argument("--snr", default="clean,10,0,-5", help="dB")
    parser.add_argument("-o", "--output", type=Path, help="keep all results here")
    options, others = parser.parse_known_args()
    if not options.data.is_dir():
        print(f"skipped: no corpora at {options.data}")
        return
    with tempfile.TemporaryDirectory() as passing:
        sys.argv = ["avsr", "bench", str(options.data / "grid.tsv"), "-o", str(options.output or passing)]
        sys.argv += ["--noise", f"babble={options.data / 'speech.tsv'}", "--held-out", str(options.data)]
        sys.argv += ["--split", options.split, "--snr", options.snr, *others]
        avsr()


if __name__ == "__main__":
    main()
