"""Corpora as tables: ``*.tsv`` files with the columns ``path speaker split seconds text words`` beside their media.

``words`` is ``word:start-end`` in seconds, separated by spaces; it may be empty, as may ``text``.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from avsr.errors import InputError
from avsr.frontend import FrontEnd, SenseTicks
from avsr.lips import Face, FaceMesh, LipTracker
from avsr.media import AudioAligner, AudioPacket
from avsr.types import ByteArray, FloatArray, Modality, VideoFrame

BABBLE_TABLE, BABBLE_SPLIT = "speech.tsv", "babble"
NOISE_TABLE = "noise.tsv"
COLUMNS = ("path", "speaker", "split", "text", "words")
CHUNK_TICKS = 25
Half = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A spoken word and its seconds from the start of the clip."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """A row of a table; ``path`` is where the media file is."""

    path: Path
    speaker: str
    split: str
    text: str
    words: tuple[AlignedWord, ...]


def read_table(table: Path) -> list[Utterance]:
    """Read every row.

    Raises:
        InputError: the table is missing, lacks a column or has a malformed alignment.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as a table of utterances: {error}") from error
    missing = [column for column in COLUMNS if rows and column not in rows[0]]
    if missing:
        raise InputError(f"{table}: lacks the column(s) {', '.join(missing)}")
    return [
        Utterance(
            table.parent / row["path"],
            row["speaker"],
            row["split"],
            row["text"] or "",
            parse_alignment(row["words"] or "", f"{table}:{index + 2}"),
        )
        for index, row in enumerate(rows)
    ]


def parse_alignment(text: str, where: str) -> tuple[AlignedWord, ...]:
    """Parse ``word:start-end`` items separated by spaces.

    Raises:
        InputError: an item is malformed or its times run backwards; ``where`` names the place.
    """
    words = []
    for item in text.split():
        word, _, span = item.rpartition(":")
        start, _, end = span.partition("-")
        try:
            aligned = AlignedWord(word, float(start), float(end))
        except ValueError as error:
            raise InputError(f"{where}: {item!r} is not word:start-end in seconds") from error
        if not word or not 0 <= aligned.start_s <= aligned.end_s < math.inf:
            raise InputError(f"{where}: {item!r} has no word, or times that run backwards or never end")
        words.append(aligned)
    return tuple(words)


def read_senses(path: Path, modality: Modality) -> SenseTicks:
    """Run a whole file through the engine's front end.

    Raises:
        MediaError: the file cannot be used.
    """
    if modality == "audio":
        return _read_senses(path, FrontEnd(modality, tracker=None))
    with _LateFaceMesh() as mesh:
        return _read_senses(path, FrontEnd(modality, LipTracker(mesh)))


class _LateFaceMesh:
    """A FaceMesh that is opened at the first picture: many a file of a corpus holds sound only."""

    def __init__(self) -> None:
        self._mesh: FaceMesh | None = None

    def __call__(self, rgb: ByteArray) -> list[Face]:
        self._mesh = self._mesh or FaceMesh()
        return self._mesh(rgb)

    def close(self) -> None:
        if self._mesh is not None:
            self._mesh.close()

    def __enter__(self) -> _LateFaceMesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_senses(path: Path, front: FrontEnd) -> SenseTicks:
    from avsr.media import open_media  # it needs PyAV, which a machine that trains from a pack can do without

    state, pieces = front.init_state(), []

    def take() -> None:
        nonlocal state
        while True:
            ticks, state = front.take(CHUNK_TICKS, state)
            if ticks is None:
                return
            pieces.append(ticks)

    with open_media(path, front.modality) as media:
        for packet in media:
            state = front.accept(packet, state)
            take()
    state = front.end(state)
    take()
    return SenseTicks(
        start_tick=0,
        samples=np.concatenate([np.zeros(0, np.float32), *(piece.samples for piece in pieces)]),
        heard=np.concatenate([np.zeros(0, np.bool_), *(piece.heard for piece in pieces)]),
        lips=tuple(lip for piece in pieces for lip in piece.lips),
    )


def read_clip(path: Path) -> tuple[FloatArray, list[VideoFrame]]:
    """Read a short clip whole: its sound from stream time 0, f32 (640 n,) at 16 kHz mono, and its pictures.

    Raises:
        MediaError: the file cannot be used.
    """
    from avsr.media import open_media

    aligner = AudioAligner()
    state, pieces, frames = aligner.init_state(), [np.zeros(0, np.float32)], []
    with open_media(path) as media:
        for packet in media:
            if isinstance(packet, AudioPacket):
                aligned, state = aligner.step(packet, state)
                pieces += [piece.samples for piece in aligned]
            else:
                frames.append(packet)
    pieces += [piece.samples for piece in aligner.flush(state)]
    return np.concatenate(pieces), frames


def noise_files(data: Path, half: Half) -> tuple[list[Path], list[Path]]:
    """Return the babble voices and the recorded noises of one half; what is trained with is never tested with."""
    parity = 0 if half == "train" else 1
    voices = sorted(u.path for u in read_table(data / BABBLE_TABLE) if u.split == BABBLE_SPLIT)
    noises = sorted(u.path for u in read_table(data / NOISE_TABLE))
    return voices[parity::2], noises[parity::2]
