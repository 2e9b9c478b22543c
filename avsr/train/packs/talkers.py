"""Synthetic talking heads as extra training data: random sentences of the GRID grammar, voices and faces."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from avsr.talker import VOICES, grid_sentence, make_clip

TABLE = "talker.tsv"


def make_talkers(directory: Path, num_clips: int, seed: int) -> Path:
    """Make ``num_clips`` clips and their table in ``directory``; return the table. Does nothing where that is done.

    Raises:
        MissingExtraError: espeak-ng or flite is not installed.
    """
    table = directory / TABLE
    if table.exists():
        return table
    (directory / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(num_clips):
        rng = np.random.default_rng((seed, index))
        name = str(rng.choice(list(VOICES)))
        voice = replace(VOICES[name], speed=float(rng.uniform(0.85, 1.15)), pitch=int(rng.integers(35, 66)))
        path = directory / "clips" / f"{index:04d}.mp4"
        lead_s, tail_s = rng.uniform(0.3, 0.6, size=2).tolist()
        clip = make_clip(
            grid_sentence(rng), path, voice=voice, seed=int(rng.integers(1 << 30)), lead_s=lead_s, tail_s=tail_s
        )
        words = " ".join(f"{word.text}:{word.start_s:.3f}-{word.end_s:.3f}" for word in clip.words)
        name_in_table = str(path.relative_to(directory))
        rows.append((name_in_table, f"talker-{name}", "train", f"{clip.duration_s:.3f}", clip.text, words))
        if (index + 1) % max(1, num_clips // 10) == 0:
            print(f"making talkers: {index + 1} of {num_clips}", flush=True)
    partial = table.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerows([("path", "speaker", "split", "seconds", "text", "words"), *rows])
    partial.replace(table)
    return table
