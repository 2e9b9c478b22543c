"""How late live captions are: clips played in real time through the loop of `avsr live`, against the targets.

    python benchmarks/latency.py                          # the talking head of the demo
    python benchmarks/latency.py clips/*.mp4 --json latency.json
    python benchmarks/latency.py ../shared/data/grid.tsv --split test --first 12

First partial: from the first voiced frame of a clip to the first caption with a word, minus the length of a chunk. The
word times of a table keep loud sound before the first word from being taken for speech. Final: from the tick at which
the pause was long enough to the final caption, minus the wait for the chunk to fill. Compute: from a full chunk to its
captions; and all the work on it, including the search for lips while it filled. A pause follows each clip.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _long_clip import DEMO_CLIP
from rich.console import Console
from rich.table import Table

import avsr
from avsr.corpora import read_clip, read_table
from avsr.live.captioner import LiveCaptioner
from avsr.live.events import Event
from avsr.live.session import run_session
from avsr.media.capture import Picture, Sound
from avsr.stream import Stream
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, ByteArray, Caption, FloatArray, level_db

PAUSE_S = 1.5
"""After each clip: long enough for an endpoint."""
PACKET_SAMPLES = 320
VOICED_DB = 25.0
"""A tick is voiced that is at most so much quieter than the loudest one, and so is the next."""
SLACK_S = TICK_S
"""Words may begin so much earlier than their corpus says."""
TARGETS_MS = {
    "first partial, beyond the chunk": 400.0,
    "final, beyond the chunk": 250.0,
    "complete chunk to captions": 64.0,
    "total processing per chunk": 64.0,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A latency over all clips, milliseconds; the target is for the 99th percentile."""

    name: str
    num_measured: int
    p50_ms: float
    p99_ms: float
    target_ms: float

    @property
    def is_met(self) -> bool:
        """Whether it is as fast as it should be."""
        return self.p99_ms <= self.target_ms


@dataclass(frozen=True, slots=True)
class Program:
    """What is played: sound f32 (n,) at 16 kHz, pictures with their times, where each clip begins to be voiced."""

    samples: FloatArray
    pictures: tuple[tuple[float, ByteArray], ...]
    onsets_s: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        """Length, seconds."""
        return len(self.samples) / SAMPLE_RATE


def main() -> None:
    """Play, print the figures and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, default=[DEMO_CLIP], help="clips, and tables of them (.tsv)")
    parser.add_argument("--split", default="test", help="which clips of a table")
    parser.add_argument("--first", type=int, default=12, help="no more clips of a table than so many")
    parser.add_argument("--rounds", type=int, default=2, help="how often all of them are played")
    parser.add_argument("--model", help="a model's name or directory")
    parser.add_argument("--chunk-ms", type=int)
    parser.add_argument("--cores", type=int, default=2, help="use no more processor cores than these")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    recognizer = avsr.load_model(options.model, threads=1)
    chunk_ms = options.chunk_ms or recognizer.bundle.config.default_chunk_ms
    recognizer.transcribe(DEMO_CLIP, chunk_ms=chunk_ms)  # what is loaded at first use is loaded now
    program = read_program(list_clips(options.clips, options.split, options.first) * options.rounds)
    with recognizer.stream(chunk_ms=chunk_ms, patience_s=1.0) as stream:
        figures = play(program, stream, chunk_ms)
    title = f"{program.duration_s:.0f} s, chunks of {chunk_ms} ms, {options.cores} cores"
    table = Table("ms", "measured", "median", "p99", "target", "", title=title)
    for figure in figures:
        values = (f"{figure.num_measured}", f"{figure.p50_ms:.0f}", f"{figure.p99_ms:.0f}", f"{figure.target_ms:.0f}")
        table.add_row(figure.name, *values, "met" if figure.is_met else "missed")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


def list_clips(paths: Sequence[Path], split: str, first: int) -> list[tuple[Path, float]]:
    """Return clips, and from when on each is to be listened to: shortly before its first word, where that is known."""
    clips: list[tuple[Path, float]] = []
    for path in paths:
        if path.suffix == ".tsv":
            rows = [row for row in read_table(path) if row.split == split][:first]
            if not rows:
                raise SystemExit(f"{path}: has no clips of the split {split!r}; choose another --split")
            clips += [(row.path, max(0.0, row.words[0].start_s - SLACK_S) if row.words else 0.0) for row in rows]
        else:
            clips.append((path, 0.0))
    return clips


def read_program(clips: Sequence[tuple[Path, float]]) -> Program:
    """Put clips one after the other, with pauses; with each comes the time before which it says nothing."""
    sounds: list[FloatArray] = []
    pictures: list[tuple[float, ByteArray]] = []
    onsets_s: list[float] = []
    begin_s = 0.0
    for clip, quiet_s in clips:
        samples, frames = read_clip(clip)
        if not len(samples) or not frames:
            raise SystemExit(f"{clip}: needs both sound and pictures")
        pictures += [(begin_s + frame.pts_us / 1e6, frame.rgb) for frame in frames]
        onsets_s.append(begin_s + _onset_s(samples, quiet_s))
        # The face stays in view through the pause.
        last_s, last = frames[-1].pts_us / 1e6, frames[-1].rgb
        num_held = round(PAUSE_S / TICK_S)
        pictures += [(begin_s + last_s + TICK_S * (1 + index), last) for index in range(num_held)]
        length_s = max(len(samples) / SAMPLE_RATE, last_s + TICK_S) + PAUSE_S
        sounds += [samples, np.zeros(round(length_s * SAMPLE_RATE) - len(samples), np.float32)]
        begin_s += length_s
    room = np.random.default_rng(1).normal(scale=1e-4, size=sum(map(len, sounds))).astype(np.float32)
    return Program(np.concatenate(sounds) + room, tuple(pictures), tuple(onsets_s))


def play(program: Program, stream: Stream, chunk_ms: int) -> tuple[Figure, ...]:
    """Play in real time; return what was measured."""
    begun_s = time.monotonic() + 0.5
    stopping = threading.Event()
    captioner = LiveCaptioner(stream, ("microphone", "camera"), offset_ms=0.0)
    watch = Watch(stream, begun_s, stopping)
    microphone, camera = PlayedMicrophone(program, begun_s, stopping), PlayedCamera(program, begun_s)
    run_session(captioner, {"microphone": lambda: microphone, "camera": lambda: camera}, [watch], stopping)
    computed = captioner.figures
    values = (
        watch.first_partials_ms(program.onsets_s, chunk_ms),
        watch.finals_ms,
        list(computed.step_ms),
        list(computed.chunk_ms),
    )
    return tuple(
        Figure(name, len(found), *(np.percentile(found or [float("nan")], [50, 99]).tolist()), target_ms)
        for (name, target_ms), found in zip(TARGETS_MS.items(), values, strict=True)
    )


class Watch:
    """A `Listener` that times captions, except those caused by the end of the program, which is no endpoint."""

    def __init__(self, stream: Stream, begun_s: float, stopping: threading.Event) -> None:
        self._stream, self._begun_s, self._stopping = stream, begun_s, stopping
        self._spoken_s: list[float] = []
        self.finals_ms: list[float] = []

    def take(self, event: Event) -> None:
        """Note when a caption with words came."""
        if not isinstance(event, Caption) or not event.words or self._stopping.is_set():
            return
        now_s = time.monotonic() - self._begun_s
        self._spoken_s.append(now_s)
        if event.is_final:
            # The next segment begins where this one was found to be over; the chunk ends where recognition stands.
            state = self._stream.state
            endpoint_s = state.captioner.first_tick * TICK_S
            waited_s = state.front.next_tick * TICK_S - endpoint_s
            self.finals_ms.append(1000 * (now_s - endpoint_s - waited_s))

    def first_partials_ms(self, onsets_s: Sequence[float], chunk_ms: int) -> list[float]:
        """Return how long after each onset the first word was shown; an onset without a word is left out."""
        found = []
        for onset_s, next_s in zip(onsets_s, [*onsets_s[1:], float("inf")], strict=True):
            first_s = next((spoken_s for spoken_s in self._spoken_s if onset_s < spoken_s < next_s), None)
            if first_s is not None:
                found.append(1000 * (first_s - onset_s) - chunk_ms)
        return found


class PlayedMicrophone:
    """A `Source` that plays in real time, and ends the session after its last packet."""

    name = "played sound"

    def __init__(self, program: Program, begun_s: float, stopping: threading.Event) -> None:
        self._pcm: npt.NDArray[np.int16] = (program.samples.clip(-1, 1) * 32767).astype(np.int16)
        self._begun_s, self._stopping, self._start = begun_s, stopping, 0

    def read(self) -> Sound:
        """Wait until the next packet is over."""
        start = self._start
        self._start = min(start + PACKET_SAMPLES, len(self._pcm) - PACKET_SAMPLES)
        if self._start == start:
            self._stopping.set()
        time.sleep(max(0.0, self._begun_s + (start + PACKET_SAMPLES) / SAMPLE_RATE - time.monotonic()))
        samples = self._pcm[start : start + PACKET_SAMPLES]
        return Sound(samples, SAMPLE_RATE, start / SAMPLE_RATE, time.monotonic() - PACKET_SAMPLES / SAMPLE_RATE)

    def close(self) -> None:
        """Nothing is held."""


class PlayedCamera:
    """A `Source` that shows pictures in real time; the last one again and again."""

    name = "played pictures"

    def __init__(self, program: Program, begun_s: float) -> None:
        self._begun_s = begun_s
        self._pictures: Iterator[tuple[float, ByteArray]] = iter(program.pictures)
        self._shown = program.pictures[0]

    def read(self) -> Picture:
        """Wait for the next picture."""
        self._shown = next(self._pictures, (self._shown[0] + TICK_S, self._shown[1]))
        time_s, rgb = self._shown
        time.sleep(max(0.0, self._begun_s + time_s - time.monotonic()))
        return Picture(rgb, self._begun_s + time_s)

    def close(self) -> None:
        """Nothing is held."""


def _onset_s(samples: FloatArray, quiet_s: float) -> float:
    """Return when the first of two voiced ticks begins, not before ``quiet_s``."""
    first = int(quiet_s / TICK_S)
    ticks = samples[: len(samples) // TICK_SAMPLES * TICK_SAMPLES].reshape(-1, TICK_SAMPLES)[first:]
    if not len(ticks):
        return quiet_s
    levels = np.array([level_db(tick) for tick in ticks])
    is_voiced = levels > levels.max() - VOICED_DB
    return float(first + np.argmax(is_voiced[:-1] & is_voiced[1:])) * TICK_S


if __name__ == "__main__":
    main()
