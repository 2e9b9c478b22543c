"""Word error rate of each sense in clean sound and in babble, on real talking faces.

python benchmarks/noise.py --split test --json noise.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from avsr import load_model
from avsr.corpora import noise_files, read_senses, read_table
from avsr.evaluate.noise_grid import Score, measure_grid
from avsr.types import Modality

MODALITIES: tuple[Modality, ...] = ("audio", "video", "av")
NAMES = {"audio": "audio only", "video": "lips only", "av": "audio-visual"}


def main() -> None:
    """Measure and print the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="corpora: grid.tsv and speech.tsv")
    parser.add_argument("--split", default="test", help="dev, test or unseen")
    parser.add_argument("--model", help="a model's name or directory")
    parser.add_argument("--snr", type=float, nargs="*", default=[10.0, 0.0, -5.0], help="babble, dB")
    parser.add_argument("--chunk-ms", type=int, help="160, 320 or 640")
    parser.add_argument("--limit", type=int, help="only so many clips")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: no corpora at {options.data}")
        return
    recognizer = load_model(options.model, threads=1)
    clips = [u for u in read_table(options.data / "grid.tsv") if u.split == options.split][: options.limit]
    voices = [read_senses(path, "audio").samples for path in noise_files(options.data, "test")[0]]
    console = Console()
    with Progress(console=Console(file=sys.stderr)) as progress:
        captioning = progress.add_task("captioning", total=len(clips))
        scores = measure_grid(
            recognizer,
            clips,
            voices,
            [None, *options.snr],
            MODALITIES,
            chunk_ms=options.chunk_ms,
            on_progress=lambda done: progress.update(captioning, completed=done),
        )
    console.print(_table(scores, options.split, len(clips)))
    if options.json:
        options.json.write_text(json.dumps([asdict(score) for score in scores], indent=2) + "\n")


def _table(scores: list[Score], split: str, num_clips: int) -> Table:
    snrs = list(dict.fromkeys(score.snr_db for score in scores))
    table = Table(title=f"word error rate, %: {num_clips} clips of GRID {split}, babble")
    table.add_column("")
    for snr_db in snrs:
        table.add_column("clean" if snr_db is None else f"{snr_db:g} dB", justify="right")
    for modality in MODALITIES:
        row = {score.snr_db: score for score in scores if score.modality == modality}
        table.add_row(NAMES[modality], *(f"{100 * row[snr].wer:.1f}" if snr in row else '"' for snr in snrs))
    weights = {score.snr_db: score.audio_weight for score in scores if score.modality == "av"}
    table.add_row("weight of the audio", *(f"{weights[snr]:.2f}" for snr in snrs))
    return table


if __name__ == "__main__":
    main()
