"""The word error rates of the README: `avsr bench` on GRID, in recordings of noise that no model was trained with.

python benchmarks/noise.py --split test -o runs/test    any other option of `avsr bench` goes on to it
python benchmarks/noise.py --kinds esc10,ambient,music,white,pink --snr 0,-10
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from avsr.cli import main as avsr
from avsr.evaluate.noises import BABBLE

GENERATED = ("white", "pink")


def main() -> None:
    """Fill in what the README's figures were measured with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the corpora")
    parser.add_argument("--kinds", default="babble", help="babble, white, pink, or directories of DATA/noise")
    parser.add_argument("--split", default="test", help="dev, test or unseen")
    parser.add_argument("--snr", default="clean,10,0,-5", help="dB")
    parser.add_argument("-o", "--output", type=Path, help="keep all results here")
    options, others = parser.parse_known_args()
    if not options.data.is_dir():
        print(f"skipped: no corpora at {options.data}")
        return
    with tempfile.TemporaryDirectory() as passing:
        sys.argv = ["avsr", "bench", str(options.data / "grid.tsv"), "-o", str(options.output or passing)]
        for kind in options.kinds.split(","):
            sys.argv += ["--noise", spell(kind, options.data)]
        sys.argv += ["--held-out", str(options.data), "--split", options.split, "--snr", options.snr, *others]
        avsr()


def spell(kind: str, data: Path) -> str:
    """Return what `avsr bench --noise` calls a kind of noise."""
    if kind in GENERATED:
        return kind
    return f"{kind}={data / 'speech.tsv' if kind == BABBLE else data / 'noise' / kind}"


if __name__ == "__main__":
    main()
