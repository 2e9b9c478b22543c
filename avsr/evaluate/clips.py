"""A clip under test: its sound, its pictures any number of times, and the faces found in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from avsr.corpora import Utterance, are_timed, read_sound
from avsr.lips import Face, FaceMesh, Landmarker
from avsr.media import active_rms, open_media
from avsr.media.noise import ACTIVE_MARGIN_DB, LEVEL_FRAME_SAMPLES
from avsr.types import SAMPLE_RATE, TICK_S, ByteArray, FloatArray, VideoFrame

View = Literal["seen", "blank"]
"""The pictures of a clip as they are, or black ones in their place."""


class ClipUnderTest:
    """An open clip; a context manager. ``samples`` f32 (n,) at 16 kHz mono from stream time 0, empty without sound.

    ``defect`` says what is damaged or cut off, None if the clip is whole.

    Pictures are decoded anew each time, since a clip may not fit in memory, but faces are searched once: they are the
    same in every noise.

    Raises:
        MediaError: the file cannot be used.
    """

    def __init__(self, utterance: Utterance) -> None:
        self.utterance = utterance
        self.has_pictures = False
        self.samples, media = read_sound(utterance.path, self._note_picture)
        self.defect = "; ".join(filter(None, (utterance.shortfall(media.position_s), *media.damage))) or None
        self.speech_span_s = speech_span_s(utterance, self.samples, media.position_s)
        self._open = ExitStack()
        self._faces: dict[View, CachedFaces] = {}

    def pictures(self, view: View) -> Iterator[VideoFrame]:
        """Yield the pictures in the order of their times; none where the clip is only sound."""
        if not self.has_pictures:
            return
        with open_media(self.utterance.path) as media:  # with its sound, whose start may be that of the clip
            frames = (packet for packet in media if isinstance(packet, VideoFrame))
            for frame in frames:
                yield VideoFrame(np.zeros_like(frame.rgb), frame.pts_us) if view == "blank" else frame

    def faces(self, view: View) -> CachedFaces:
        """Return the landmarker for ``view``, at the first picture."""
        if view not in self._faces:
            self._faces[view] = CachedFaces(self._open.enter_context(FaceMesh()))
        return self._faces[view].rewound()

    def _note_picture(self, _: VideoFrame) -> None:
        self.has_pictures = True

    def __enter__(self) -> ClipUnderTest:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the face trackers."""
        self._open.close()


@dataclass(slots=True)
class CachedFaces:
    """A landmarker that searches each picture of a clip once, and answers from memory when the clip is played again.

    ``saved_s`` is the search time saved by answers from memory: add it to a measured time to get what it would have
    been without them.
    """

    mesh: Landmarker
    saved_s: float = 0.0
    _known: list[tuple[list[Face], float]] = field(default_factory=list)
    _next: int = 0

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Faces in the next picture of the clip."""
        self._next += 1
        if self._next <= len(self._known):
            faces, took_s = self._known[self._next - 1]
            self.saved_s += took_s
            return faces
        begun_s = time.perf_counter()
        faces = self.mesh(rgb)
        self._known.append((faces, time.perf_counter() - begun_s))
        return faces

    def close(self) -> None:
        """Do nothing: the caller owns the mesh."""

    def rewound(self) -> CachedFaces:
        """Start the clip again; return itself."""
        self._next = 0
        return self


def speech_span_s(utterance: Utterance, samples: FloatArray, duration_s: float) -> tuple[float, float] | None:
    """Return when the first word begins and the last one ends, seconds; None where nothing is said.

    From the alignment of the corpus, where it has one that a clip of ``duration_s`` can have; else the first and last
    20 ms of the clean sound that are within 15.9 dB of its active speech level.
    """
    # A pack counts a tick that has begun as whole: what is used there is used here.
    if utterance.words and are_timed(utterance.words, utterance.text, duration_s + TICK_S):
        return utterance.words[0].start_s, utterance.words[-1].end_s
    num_frames = len(samples) // LEVEL_FRAME_SAMPLES
    powers = (
        np.square(samples[: num_frames * LEVEL_FRAME_SAMPLES], dtype=np.float64)
        .reshape(-1, LEVEL_FRAME_SAMPLES)
        .mean(1)
    )
    level = active_rms(samples) ** 2
    active = np.flatnonzero(powers >= level * 10.0 ** (-ACTIVE_MARGIN_DB / 10)) if level else np.zeros(0, np.int64)
    if not len(active):
        return None
    frame_s = LEVEL_FRAME_SAMPLES / SAMPLE_RATE
    return float(active[0] * frame_s), float((active[-1] + 1) * frame_s)
