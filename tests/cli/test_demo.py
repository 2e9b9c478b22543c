"""The demo's race: every sense gets the same clip in step, and the shipped babble is there to drown it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from rich.console import Console

from avsr.cli.demo import CLIPS, caption_side_by_side
from avsr.corpora import read_clip
from avsr.media.noise import active_rms
from avsr.types import SAMPLE_RATE, Caption, FloatArray, Modality, VideoFrame, Word


@dataclass
class FakeStream:
    """Recognises the right words from lips, and from sound that is not louder than 0.1."""

    modality: Modality
    samples: list[FloatArray] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    is_finished: bool = False
    is_closed: bool = False

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def accept_audio(self, samples: FloatArray, sample_rate: int, t: float) -> None:
        assert sample_rate == SAMPLE_RATE
        assert sum(map(len, self.samples)) == round(t * SAMPLE_RATE)
        self.samples.append(samples)

    def accept_video(self, rgb: np.ndarray, t: float) -> None:
        self.times_s.append(t)

    def captions(self) -> Iterator[Caption]:
        is_loud = self.modality == "audio" and any(np.abs(x).max(initial=0) > 0.1 for x in self.samples)
        words = tuple(Word(word, 0.0, 1.0, 1.0) for word in ("pin" if is_loud else "bin", "blue"))
        yield Caption(0, 0, self.is_finished, words, 0, 0.0, 1.0, 0.5, 1.0)

    def finish(self) -> None:
        self.is_finished = True


def test_every_sense_gets_the_whole_clip_and_its_own_error_rate() -> None:
    streams: list[FakeStream] = []

    def stream(modality: Modality) -> FakeStream:
        streams.append(FakeStream(modality))
        return streams[-1]

    quiet = np.full(SAMPLE_RATE + 123, 0.05, dtype=np.float32)
    frames = [VideoFrame(np.zeros((2, 2, 3), np.uint8), 40_000 * index) for index in range(30)]
    recognizer = SimpleNamespace(stream=stream)
    pictures = list(caption_side_by_side(recognizer, {"in quiet": quiet, "in noise": quiet * 4}, frames, "bin blue"))  # type: ignore[arg-type]

    assert [s.modality for s in streams] == ["audio", "audio", "video", "video", "av", "av"]
    for s in streams:
        assert sum(map(len, s.samples)) == len(quiet)
        assert s.times_s == [frame.pts_us / 1e6 for frame in frames]
        assert s.is_finished and s.is_closed
    console = Console(width=100)
    with console.capture() as capture:
        console.print(pictures[-1])
    picture = capture.get()
    assert picture.count("WER 0%") == 5
    assert picture.count("WER 50%") == 1


def test_the_shipped_clip_is_small_and_says_what_its_transcript_says() -> None:
    samples, frames = read_clip(CLIPS / "bin_blue.mp4")
    transcript = json.loads((CLIPS / "bin_blue.json").read_text())
    assert abs(len(samples) / SAMPLE_RATE - transcript["duration"]) < 0.1
    assert abs(len(frames) / transcript["fps"] - transcript["duration"]) < 0.1
    for word in transcript["words"]:
        spoken = samples[round(word["start"] * SAMPLE_RATE) : round(word["end"] * SAMPLE_RATE)]
        assert active_rms(spoken) > 0.01, word
    assert (CLIPS / "bin_blue.mp4").stat().st_size <= 400_000


def test_the_shipped_babble_is_eight_seconds_of_many_voices() -> None:
    samples, frames = read_clip(CLIPS / "babble.ogg")
    assert abs(len(samples) / SAMPLE_RATE - 8.0) < 0.1
    assert frames == []
    seconds = samples[: 8 * SAMPLE_RATE].reshape(-1, SAMPLE_RATE // 2)
    assert all(active_rms(half) > 0.02 for half in seconds), "babble never pauses"
    assert (CLIPS / "babble.ogg").stat().st_size <= 60_000
