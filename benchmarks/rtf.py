"""Real-time factor, end to end and by stage: one core, 640x480 at 25 fps, lips included.

python benchmarks/rtf.py --seconds 60 --json rtf.json

The baseline of every ratio is reading the same file without recognising anything, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import cv2
from _long_clip import DEMO_CLIP, write_long_clip
from rich.console import Console
from rich.table import Table

from avsr import load_model
from avsr.media import open_media


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=DEMO_CLIP, help="the clip that is repeated")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the input")
    parser.add_argument("--model", help="a model's name or directory")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):  # MediaPipe and the decoders have threads of their own: one core for all
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    recognizer = load_model(options.model, threads=1)
    if not recognizer.transcribe(DEMO_CLIP).words:  # and what is loaded once is loaded now
        raise SystemExit("the demo clip gave no words: there is nothing to time")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mkv"
        write_long_clip(options.clip, path, options.seconds, size=(640, 480))
        begun = time.perf_counter()
        with open_media(path) as media:
            for _ in media:
                pass
            duration_s = media.duration_s or options.seconds
        figures["reading the file"] = (time.perf_counter() - begun) / duration_s
        for chunk_ms in recognizer.chunk_choices_ms:
            for modality in ("audio", "video", "av"):
                transcript = recognizer.transcribe(path, modality=modality, chunk_ms=chunk_ms)
                figures[f"{modality}, chunks of {chunk_ms} ms"] = transcript.rtf or 0.0
    table = Table("", "RTF", "times reading", title=f"{options.seconds:g} s of 640x480 at 25 fps, one core")
    for name, rtf in figures.items():
        table.add_row(name, f"{rtf:.3f}", f"{rtf / figures['reading the file']:.1f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
