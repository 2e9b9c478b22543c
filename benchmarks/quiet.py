"""Word error rate of a quiet microphone, by sound alone: what one speaker says, sentence after sentence, as one stream.

python benchmarks/quiet.py ../shared/data/grid.tsv --split test --json quiet.json

Each stream is heard as it is and so many dB quieter, with and without what makes quiet sound louder.
"""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from avsr import Recognizer, load_model
from avsr.corpora import read_sound, read_table
from avsr.evaluate.text import normalise
from avsr.evaluate.wer import NO_ERRORS, Errors, word_errors
from avsr.features import level
from avsr.types import SAMPLE_RATE, FloatArray


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=Path("../shared/data/grid.tsv"), help="a table of clips")
    parser.add_argument("--split", default="test", help="whose clips are heard")
    parser.add_argument("--quieter-db", default="0,20,30,40,50", help="how much quieter they are made")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not options.table.exists():
        print(f"skipped: no corpus at {options.table}")
        return
    torch.set_num_threads(1)
    clips = sorted((u for u in read_table(options.table) if u.split == options.split), key=lambda u: u.speaker)
    if not clips:
        parser.error(f"--split {options.split}: {options.table} has no such clips")
    model = load_model()
    streams = []
    for _, spoken in groupby(clips, key=lambda u: u.speaker):
        one = list(spoken)
        sound = np.concatenate([read_sound(u.path, lambda _: None)[0] for u in one])
        streams.append((sound, " ".join(normalise(u.text, "basic") for u in one)))

    figures: dict[str, dict[str, float]] = {}
    table = Table("quieter by", "words wrong", "nothing made louder", title=f"{len(clips)} clips of {options.split}")
    for quieter_db in (float(value) for value in options.quieter_db.split(",")):
        figures[f"{quieter_db:g}"] = wrong = {}
        for name, max_gain_db in (("wrong", level.MAX_GAIN_DB), ("wrong_without", 0.0)):
            errors = NO_ERRORS
            with mock.patch.object(level, "MAX_GAIN_DB", max_gain_db):
                for sound, text in streams:
                    errors += heard(model, sound * np.float32(10 ** (-quieter_db / 20)), text)
            wrong[name] = errors.total / errors.num_reference
        table.add_row(f"{quieter_db:g} dB", *(f"{100 * share:.1f} %" for share in wrong.values()))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def heard(model: Recognizer, sound: FloatArray, text: str) -> Errors:
    """Count what a live stream of ``sound`` f32 (n,), 16 kHz, gets wrong of ``text``."""
    with model.stream(modality="audio") as stream:
        for start in range(0, len(sound), SAMPLE_RATE):
            stream.accept_audio(sound[start : start + SAMPLE_RATE], SAMPLE_RATE)
        stream.finish()
        finals = [caption.text for caption in stream.captions() if caption.is_final]
    return word_errors(text, normalise(" ".join(finals), "basic"))


if __name__ == "__main__":
    main()
