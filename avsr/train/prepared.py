"""Corpora on disk, ready to train from: what the engine's own front end made of each clip.

A prepared directory holds four files, all clips one behind the other on a common tick axis of N ticks:
``audio.npy`` i16 (640 N,), ``lips.npy`` u8 (N, 96, 96), ``visible.npy`` bool (N,) and ``index.jsonl``, a ``Clip`` a
line.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from avsr.corpora import AlignedWord
from avsr.errors import InputError
from avsr.types import TICK_SAMPLES, BoolArray, ByteArray, FloatArray

AUDIO_FILE, LIPS_FILE, VISIBLE_FILE, INDEX_FILE = "audio.npy", "lips.npy", "visible.npy", "index.jsonl"
FULL_SCALE = 32767.0


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance: where it came from, what is said, and its place on the tick axis of its prepared directory."""

    path: str
    speaker: str
    split: str
    text: str
    words: tuple[AlignedWord, ...]
    start_tick: int
    num_ticks: int


@dataclass(frozen=True, slots=True)
class ClipData:
    """``audio`` f32 (640 T,); ``lips`` u8 (T, 96, 96); ``visible`` bool (T,)."""

    audio: FloatArray
    lips: ByteArray
    visible: BoolArray

    def cut(self, first: int, last: int) -> ClipData:
        """Return the ticks from ``first`` to before ``last``."""
        return ClipData(
            self.audio[first * TICK_SAMPLES : last * TICK_SAMPLES], self.lips[first:last], self.visible[first:last]
        )


class PreparedCorpus:
    """Reads a prepared directory; the arrays are memory-mapped."""

    def __init__(self, directory: Path) -> None:
        try:
            lines = (directory / INDEX_FILE).read_text(encoding="utf-8").splitlines()
            self._audio = np.load(directory / AUDIO_FILE, mmap_mode="r")
            self._lips = np.load(directory / LIPS_FILE, mmap_mode="r")
            self._visible = np.load(directory / VISIBLE_FILE, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{directory}: not a prepared corpus ({error}); run `avsr train` again with another --work"
            ) from error
        try:
            self.clips = tuple(_read_clip(line) for line in lines)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{directory / INDEX_FILE}: a line is not a clip ({error}); remove the directory"
            ) from error

    def select(self, *splits: str) -> list[Clip]:
        """Return the clips of these splits."""
        return [clip for clip in self.clips if clip.split in splits]

    def load(self, clip: Clip) -> ClipData:
        """Read one clip."""
        start, end = clip.start_tick, clip.start_tick + clip.num_ticks
        audio = np.asarray(self._audio[start * TICK_SAMPLES : end * TICK_SAMPLES], dtype=np.float32) / FULL_SCALE
        return ClipData(audio, np.array(self._lips[start:end]), np.array(self._visible[start:end]))


def write_prepared(directory: Path, clips: list[Clip], data: list[ClipData]) -> None:
    """Write a prepared directory; ``start_tick`` of each clip is set here."""
    directory.mkdir(parents=True, exist_ok=True)
    audio = [np.clip(np.round(piece.audio * FULL_SCALE), -FULL_SCALE, FULL_SCALE).astype(np.int16) for piece in data]
    np.save(directory / AUDIO_FILE, np.concatenate(audio))
    np.save(directory / LIPS_FILE, np.concatenate([piece.lips for piece in data]))
    np.save(directory / VISIBLE_FILE, np.concatenate([piece.visible for piece in data]))
    tick = 0
    partial = directory / f"{INDEX_FILE}.partial"  # the index says that the rest is whole, so it comes last and whole
    with partial.open("w", encoding="utf-8") as index:
        for clip, piece in zip(clips, data, strict=True):
            fields = asdict(clip) | {"start_tick": tick, "num_ticks": len(piece.visible)}
            index.write(json.dumps(fields) + "\n")
            tick += len(piece.visible)
    partial.replace(directory / INDEX_FILE)


def _read_clip(line: str) -> Clip:
    fields = json.loads(line)
    words = tuple(AlignedWord(**word) for word in fields.pop("words"))
    return Clip(words=words, **fields)
