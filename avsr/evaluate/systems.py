"""What is put to the test: the engine with one choice of senses and chunk, or another recogniser behind an adapter."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from avsr.decode import WordLm
from avsr.errors import AvsrError, InputError
from avsr.evaluate.adapters import Adapter
from avsr.evaluate.clips import CachedFaces, ClipUnderTest, View
from avsr.media import AudioPacket, Packet
from avsr.recognizer import NO_LM, Recognizer
from avsr.types import SAMPLE_RATE, TICK_SAMPLES, Caption, FloatArray, Modality, VideoFrame

TestedModality = Literal["av", "audio", "video", "blank"]
"""The engine's modalities, and ``blank``: both senses, with black pictures, as from a covered lens."""

TITLES: dict[TestedModality, str] = {
    "av": "audio-visual",
    "audio": "audio only",
    "video": "lips only",
    "blank": "blank video",
}


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a system made of a clip of ``duration_s``, in ``work_s`` seconds of work.

    ``audio_weight`` is the mean over its final captions with words, None for a single sense. ``first_word_s`` and
    ``final_s`` are the stream times at which the first caption with a word, and the last final one, were made;
    ``live_first_word_s`` and ``live_final_s`` are the same with the time that the work took. None where there was no
    word, or where the system does not stream.
    """

    text: str
    duration_s: float
    work_s: float
    audio_weight: float | None = None
    first_word_s: float | None = None
    final_s: float | None = None
    live_first_word_s: float | None = None
    live_final_s: float | None = None


class System(Protocol):
    """``name`` is unique in a run; two systems with the same name and ``settings`` give the same text."""

    @property
    def name(self) -> str:
        """Short name, for files."""
        ...

    @property
    def title(self) -> str:
        """Name for people."""
        ...

    @property
    def uses_sound(self) -> bool:
        """Whether it uses the sound, so that noise can matter."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that its text depends on, as JSON."""
        ...

    def recognise(self, clip: ClipUnderTest, sound: FloatArray) -> Recognition:
        """Recognise the clip with ``sound`` f32 (n,), 16 kHz mono, in place of its own."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSystem:
    """avsr itself: a live stream, fed in packets of one tick."""

    recognizer: Recognizer
    modality: TestedModality
    chunk_ms: int
    lm: WordLm | None = None
    setup: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Such as ``av@320``."""
        return f"{self.modality}@{self.chunk_ms}"

    @property
    def title(self) -> str:
        """Such as ``audio-visual, 320 ms``."""
        return f"{TITLES[self.modality]}, {self.chunk_ms} ms"

    @property
    def uses_sound(self) -> bool:
        """True unless it only reads lips."""
        return self.modality != "video"

    @property
    def settings(self) -> dict[str, Any]:
        """The model by its hash, and how it is run."""
        bundle = self.recognizer.bundle
        return {
            **self.setup,
            "model": bundle.config.name,
            "version": bundle.config.version,
            "sha256": bundle.sha256,
        }

    def recognise(self, clip: ClipUnderTest, sound: FloatArray) -> Recognition:
        """Stream the clip, as `System.recognise`."""
        view: View = "blank" if self.modality == "blank" else "seen"
        modality: Modality = "av" if self.modality == "blank" else self.modality
        faces = None if modality == "audio" else clip.faces(view)
        pictures = iter(()) if modality == "audio" else clip.pictures(view)
        run = _LiveRun(faces)
        stream = self.recognizer.stream(
            modality=modality, chunk_ms=self.chunk_ms, lm=self.lm or NO_LM, landmarker=faces
        )
        with stream:
            for arrival_s, packet in arrivals(sound, pictures):
                run.begin(arrival_s)
                stream.accept(packet)
                run.end(stream.captions())
            run.begin(run.arrival_s)
            stream.finish()
            run.end(stream.captions())
            recognition = run.recognition(stream.duration_s)
        return recognition if modality == "av" else replace(recognition, audio_weight=None)


@dataclass(frozen=True, slots=True)
class AdapterSystem:
    """Another recogniser, given each clip whole."""

    name: str
    adapter: Adapter

    @property
    def title(self) -> str:
        """Its name."""
        return self.name

    @property
    def uses_sound(self) -> bool:
        """It is given the sound."""
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of itself."""
        return {"adapter": self.adapter.describe()}

    def recognise(self, clip: ClipUnderTest, sound: FloatArray) -> Recognition:
        """Pass the clip to the adapter, as `System.recognise`.

        Raises:
            InputError: the recogniser failed.
        """
        own = sound.copy()  # it may work in place, and other systems get the same sound
        begun_s = time.perf_counter()
        try:
            text = self.adapter.transcribe(own, clip.utterance.path if clip.has_pictures else None)
        except AvsrError:
            raise
        except (Exception, SystemExit) as error:
            raise self._failed(clip, f"{type(error).__name__}: {error}") from error
        if not isinstance(text, str):
            raise self._failed(clip, f"transcribe returned {type(text).__name__}, not the words as one str")
        return Recognition(text, len(sound) / SAMPLE_RATE, time.perf_counter() - begun_s)

    def _failed(self, clip: ClipUnderTest, problem: str) -> InputError:
        return InputError(f"--compare {self.name}: {clip.utterance.path}: {problem}; run it again to go on from there")


def arrivals(sound: FloatArray, pictures: Iterator[VideoFrame]) -> Iterator[tuple[float, Packet]]:
    """Yield packets with the stream time, seconds, at which they are there: sound when its last sample was recorded."""

    def sounds() -> Iterator[tuple[float, Packet]]:
        for start in range(0, len(sound), TICK_SAMPLES):
            piece = sound[start : start + TICK_SAMPLES]
            yield (start + len(piece)) / SAMPLE_RATE, AudioPacket(piece, SAMPLE_RATE, start / SAMPLE_RATE)

    seen = ((frame.pts_us / 1e6, frame) for frame in pictures)
    return heapq.merge(sounds(), seen, key=lambda arrival: arrival[0])


@dataclass(slots=True)
class _LiveRun:
    """Computes when captions would appear if packets came in real time, although they are fed without waiting.

    Work on a packet begins when it is there and the one before it is done: ``done_s = max(arrival_s, done_s) + work``.
    """

    faces: CachedFaces | None
    arrival_s: float = 0.0
    done_s: float = 0.0
    work_s: float = 0.0
    finals: list[Caption] = field(default_factory=list)
    first_word: tuple[float, float] | None = None
    final: tuple[float, float] | None = None
    _begun_s: float = 0.0

    def begin(self, arrival_s: float) -> None:
        """Start the clock for what arrives at ``arrival_s``."""
        self.arrival_s = arrival_s
        self._begun_s = self._clock_s()

    def end(self, captions: Iterator[Caption]) -> None:
        """Stop the clock and take the captions that came of it."""
        work_s = self._clock_s() - self._begun_s
        self.work_s += work_s
        self.done_s = max(self.arrival_s, self.done_s) + work_s
        now = self.arrival_s, self.done_s
        for caption in captions:
            if caption.words:
                self.first_word = self.first_word or now
            if caption.is_final:
                self.finals.append(caption)
                self.final = now

    def recognition(self, duration_s: float) -> Recognition:
        """Return what was found."""
        weights = [caption.audio_weight for caption in self.finals]
        first_word, live_first_word = self.first_word or (None, None)
        final, live_final = self.final or (None, None)
        return Recognition(
            text=" ".join(caption.text for caption in self.finals),
            duration_s=duration_s,
            work_s=self.work_s,
            audio_weight=sum(weights) / len(weights) if weights else None,
            first_word_s=first_word,
            final_s=final,
            live_first_word_s=live_first_word,
            live_final_s=live_final,
        )

    def _clock_s(self) -> float:
        return time.perf_counter() + (self.faces.saved_s if self.faces else 0.0)
