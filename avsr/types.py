"""What travels between the stages, and the one clock they share.

1 tick = 40 ms = 640 samples at 16 kHz = 4 log-mel frames (10 ms hop) = 1 lip frame at 25 fps = 1 encoder frame.
Everything between ``media`` and ``captions`` is placed by an integer tick counted from the start of the stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000
"""Audio rate inside the engine, Hz."""
TICK_SAMPLES = 640
"""Audio samples in a tick."""
TICK_MS = 40
"""Milliseconds in a tick."""
TICK_US = 40_000
"""Microseconds in a tick."""
TICK_S = 0.04
"""Seconds in a tick."""
HOP_SAMPLES = 160
"""Samples between log-mel frames (10 ms)."""
WINDOW_SAMPLES = 400
"""Samples in a log-mel window (25 ms)."""
MELS_PER_TICK = 4
"""Log-mel frames in a tick."""
NUM_MELS = 80
"""Mel bands."""
LIP_SIZE = 96
"""Side of the square lip crop, pixels."""
MUTED_DB = -80.0
"""Sound below this level, dB of full scale, is quieter than any room: the microphone is muted."""

Modality = Literal["av", "audio", "video"]
Sense = Literal["audio", "video"]

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


def level_db(samples: FloatArray) -> float:
    """Loudness of ``samples`` f32 (n,) in [-1, 1]: mean power in dB of full scale, at least -120."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * math.log10(max(power, 1e-12))


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture: ``rgb`` u8 (H, W, 3), upright; ``pts_us`` microseconds since the start of the stream."""

    rgb: ByteArray
    pts_us: int


@dataclass(frozen=True, slots=True)
class AudioTicks:
    """Audio placed on ticks: ``samples`` f32 (640 n,); ``heard`` bool (n,); zeros where nothing was heard."""

    samples: FloatArray
    heard: BoolArray
    start_tick: int

    @property
    def num_ticks(self) -> int:
        """Ticks in this piece."""
        return len(self.heard)


@dataclass(frozen=True, slots=True)
class VideoTick:
    """The picture shown at ``tick``; ``frame`` is None where the camera gave nothing.

    ``repeated`` says that the picture is the same one as at the previous tick, so that work on it can be reused.
    """

    tick: int
    frame: VideoFrame | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class LipFrame:
    """The mouth at ``tick``: ``gray`` u8 (96, 96), all zero when not ``visible``.

    ``mouth_opening`` is the gap of the inner lips over the mouth's width, None when no face is seen.
    """

    gray: ByteArray
    tick: int
    visible: bool
    mouth_opening: float | None = None


@dataclass(frozen=True, slots=True)
class AvChunk:
    """Model input for B streams and C ticks.

    ``mel`` f32 (B, 4C, 80), normalised; ``lips`` u8 (B, C, 96, 96); ``heard`` and ``visible`` bool (B, C);
    ``start_tick`` the absolute tick of the first column (the same for every row).
    """

    mel: torch.Tensor
    lips: torch.Tensor
    heard: torch.Tensor
    visible: torch.Tensor
    start_tick: int = 0

    @property
    def num_ticks(self) -> int:
        """Ticks in this chunk (C)."""
        return self.heard.shape[1]


@dataclass(frozen=True, slots=True)
class LogProbs:
    """CTC output for B streams: ``values`` f32 (B, C, V) natural log; ``audio_weight`` f32 (B, C) in [0, 1]."""

    values: torch.Tensor
    audio_weight: torch.Tensor
    start_tick: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word; times in seconds since the start of the stream, ``confidence`` in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    confidence: float

    @property
    def start(self) -> float:
        """Seconds from the start of the stream to the word's beginning."""
        return self.start_s

    @property
    def end(self) -> float:
        """Seconds from the start of the stream to the word's end."""
        return self.end_s


@dataclass(frozen=True, slots=True)
class Caption:
    """What the engine believes about one segment of speech, at one moment.

    ``segment`` counts from 0; ``revision`` counts from 0 inside a segment. The first ``stable_chars`` characters of
    ``text`` are never revised. A final has words; a partial without any takes back what was shown before it.
    ``audio_weight`` is how far the gate trusted the sound (0..1), ``face_visible`` the share of ticks with a face, both
    averaged over the segment; ``latency_ms`` is measured from the arrival of the last packet that this caption needed
    to the caption's making, None where nothing was timed.
    """

    segment: int
    revision: int
    is_final: bool
    words: tuple[Word, ...]
    stable_chars: int
    start_s: float
    end_s: float
    audio_weight: float
    face_visible: float
    latency_ms: float | None = None

    @property
    def text(self) -> str:
        """The words, joined by single spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> float:
        """Seconds from the start of the stream to the first word."""
        return self.start_s

    @property
    def end(self) -> float:
        """Seconds from the start of the stream to the end of the last word."""
        return self.end_s


@dataclass(frozen=True, slots=True)
class Transcript:
    """The final captions of one whole input.

    ``model`` and ``version`` name the bundle that made it; ``rtf`` is seconds of work per second of input, None where
    nothing was timed; ``source`` is what was transcribed, as the user named it; ``warnings`` are for people.
    """

    segments: tuple[Caption, ...]
    duration_s: float
    model: str
    version: str
    modality: Modality = "av"
    rtf: float | None = None
    source: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The segments that hold words, one a line."""
        return "\n".join(segment.text for segment in self.segments if segment.words)

    @property
    def words(self) -> tuple[Word, ...]:
        """Every word of every segment."""
        return tuple(word for segment in self.segments for word in segment.words)
