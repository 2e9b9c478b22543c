"""Milliseconds a frame of the lip stage at 640x480: finding the face, and the whole step with the crop.

taskset -c 0 python benchmarks/lips.py --json lips.json

Faces are counted in what is shown, so that the price of a second one is seen too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import av
import cv2
import numpy as np
from _long_clip import DEMO_CLIP
from rich.console import Console
from rich.table import Table

from avsr.lips import FaceMesh, LipInput, LipTracker
from avsr.types import ByteArray, VideoFrame, VideoTick

SIZE = (640, 480)
BUDGET_MS = 6.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=DEMO_CLIP, help="a clip with a face in it, resized to 640x480")
    parser.add_argument("--runs", type=int, default=5, help="times the clip is shown; the quietest run is reported")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    one = read_pictures(options.clip)
    shown = {
        "no face": [np.full_like(p, 90) for p in one],
        "one face": one,
        "two faces": [side_by_side(p) for p in one],
    }

    figures: dict[str, dict[str, float]] = {}
    table = Table("", "faces found", "FaceMesh", "whole step", "slowest 5 %", title="ms a frame, 640x480")
    for name, pictures in shown.items():
        num_faces = faces_found(pictures)
        mesh_ms = min((mesh_times_ms(pictures) for _ in range(options.runs)), key=np.median)
        step_ms = min((step_times_ms(pictures) for _ in range(options.runs)), key=np.median)
        figures[name] = {
            "faces_found": num_faces,
            "mesh_ms": float(np.median(mesh_ms)),
            "step_ms": float(np.median(step_ms)),
            "step_p95_ms": float(np.percentile(step_ms, 95)),
        }
        values = figures[name]
        table.add_row(name, f"{num_faces:.2f}", *(f"{values[k]:.2f}" for k in ("mesh_ms", "step_ms", "step_p95_ms")))
    console = Console()
    console.print(table)
    within = figures["one face"]["step_ms"] <= BUDGET_MS
    console.print(f"One face is {'within' if within else 'over'} the budget of {BUDGET_MS:g} ms.")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def read_pictures(clip: Path) -> list[ByteArray]:
    """Every picture of ``clip``, u8 (480, 640, 3)."""
    with av.open(str(clip)) as container:
        return [cv2.resize(frame.to_ndarray(format="rgb24"), SIZE) for frame in container.decode(video=0)]


def side_by_side(picture: ByteArray) -> ByteArray:
    """The picture twice, half as large, on one of the same size."""
    half = cv2.resize(picture, (SIZE[0] // 2, SIZE[1] // 2), interpolation=cv2.INTER_AREA)
    both = np.full_like(picture, 90)
    both[SIZE[1] // 4 : SIZE[1] // 4 + half.shape[0]] = np.hstack([half, half])
    return both


def faces_found(pictures: list[ByteArray]) -> float:
    """Faces found in a picture, on average."""
    with FaceMesh() as mesh:
        return float(np.mean([len(mesh(picture)) for picture in pictures]))


def mesh_times_ms(pictures: list[ByteArray]) -> list[float]:
    """Time that FaceMesh alone takes for each picture."""
    times_ms = []
    with FaceMesh() as mesh:
        for picture in pictures:
            begun = time.perf_counter()
            mesh(picture)
            times_ms.append((time.perf_counter() - begun) * 1e3)
    return times_ms


def step_times_ms(pictures: list[ByteArray]) -> list[float]:
    """Time of each step of the stage."""
    times_ms = []
    with FaceMesh() as mesh:
        tracker = LipTracker(mesh)
        state = tracker.init_state()
        for tick, picture in enumerate(pictures):
            x = LipInput(VideoTick(tick, VideoFrame(picture, tick * 40_000)), audio_db=-30.0)
            begun = time.perf_counter()
            _, state = tracker.step(x, state)
            times_ms.append((time.perf_counter() - begun) * 1e3)
    return times_ms


if __name__ == "__main__":
    main()
