"""Word error rate of dim pictures, by lips alone.

python benchmarks/dim.py ../shared/data/grid.tsv --split test --json dim.json

Each clip is seen as it is and in so much of its light, with and without what makes dim mouths brighter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from avsr import Recognizer, load_model
from avsr.corpora import Utterance, read_table
from avsr.evaluate.text import normalise
from avsr.evaluate.wer import NO_ERRORS, Errors, word_errors
from avsr.lips import light
from avsr.media import open_media
from avsr.types import VideoFrame


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=Path("../shared/data/grid.tsv"), help="a table of clips")
    parser.add_argument("--split", default="test", help="whose clips are seen")
    parser.add_argument("--light", default="1,0.5,0.25,0.12", help="how much of their light is left")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not options.table.exists():
        print(f"skipped: no corpus at {options.table}")
        return
    torch.set_num_threads(1)
    clips = [u for u in read_table(options.table) if u.split == options.split]
    if not clips:
        parser.error(f"--split {options.split}: {options.table} has no such clips")
    model = load_model()
    figures: dict[str, dict[str, float]] = {}
    table = Table("light left", "words wrong", "nothing made brighter", title=f"{len(clips)} clips of {options.split}")
    for share in (float(value) for value in options.light.split(",")):
        figures[f"{share:g}"] = wrong = {}
        for name, dim_level in (("wrong", light.DIM_LEVEL), ("wrong_without", 0.0)):
            with mock.patch.object(light, "DIM_LEVEL", dim_level):
                errors = sum((seen(model, clip, share) for clip in clips), NO_ERRORS)
            wrong[name] = errors.total / errors.num_reference
        table.add_row(f"{share:g}", *(f"{100 * rate:.1f} %" for rate in wrong.values()))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def seen(model: Recognizer, clip: Utterance, share: float) -> Errors:
    """Count what the lips of ``clip`` tell wrong when ``share`` of the light is left."""
    levels = np.rint(np.arange(256) * share).astype(np.uint8)
    with model.stream(modality="video") as stream, open_media(clip.path) as media:
        for packet in media:
            if isinstance(packet, VideoFrame):
                stream.accept(VideoFrame(levels[packet.rgb], packet.pts_us))
        stream.finish()
        finals = [caption.text for caption in stream.captions() if caption.is_final]
    return word_errors(normalise(clip.text, "basic"), normalise(" ".join(finals), "basic"))


if __name__ == "__main__":
    main()
