"""Memory of one long stream: how much resident memory grows after the first minutes.

python benchmarks/memory.py --minutes 60 --warm-up 5 --json memory.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from pathlib import Path

from _long_clip import DEMO_CLIP, repeat_clip
from rich.console import Console
from rich.table import Table

from avsr import load_model

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="length of the input")
    parser.add_argument("--warm-up", type=float, default=1.0, help="minutes before the baseline is taken")
    parser.add_argument("--model", help="a model's name or directory")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if math.ceil(options.warm_up) >= options.minutes:  # memory is read at whole minutes
        parser.error("a whole minute must come after --warm-up and before the end, --minutes")
    if not Path("/proc/self/statm").exists():
        print("skipped: resident memory is read from /proc, which this system does not have")
        return
    recognizer = load_model(options.model, threads=1)
    resident_mb: dict[int, float] = {}

    def watch(position_s: float, duration_s: float | None) -> None:
        minute = int(position_s // 60)
        if minute not in resident_mb:
            resident_mb[minute] = resident()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mkv"
        repeat_clip(DEMO_CLIP, path, options.minutes * 60)
        transcript = recognizer.transcribe(path, on_progress=watch)
    baseline = resident_mb[min(resident_mb, key=lambda minute: abs(minute - options.warm_up))]
    later = [mb for minute, mb in resident_mb.items() if minute >= options.warm_up]
    figures = {
        "minutes": transcript.duration_s / 60,
        "baseline_mb": baseline,
        "highest_growth_mb": max(later) - baseline,
        "final_growth_mb": resident() - baseline,
        "words": float(len(transcript.words)),
        "rtf": transcript.rtf or 0.0,
    }
    table = Table("", "", title="one long stream", show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def resident() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


if __name__ == "__main__":
    main()
