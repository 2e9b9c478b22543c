"""Packs: corpora on disk, ready to train from, as the engine's own front end saw and heard each clip.

A pack is a directory:

    index.jsonl       first {"avsr_pack": 1}, then a line for each clip: a ``Clip`` and where its ``Media`` lie
    shard-00000.bin   at most 60 MB: for each clip its sound (Ogg Opus, 16 kHz mono) and right behind it its lip crops
    shard-00001.bin   (H.264 in MP4, 96x96, 25 a second), one picture a tick; an absent sense takes no bytes
    failed.tsv        path and reason of every clip that could not be prepared; written last, when the pack is finished

A 3 s clip takes about 22 kB. Reading one needs neither MediaPipe nor PyAV. A line is written when its clip is whole in
the shard, so a pack is whole at any moment: a last line without its end, and bytes that no line speaks of, are what
was being written when the writer was killed, and do not count.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avsr.corpora import AlignedWord, are_timed
from avsr.errors import InputError
from avsr.train.packs.codec import decode_audio, decode_lips
from avsr.types import TICK_S, TICK_SAMPLES, BoolArray, ByteArray, FloatArray

INDEX_FILE = "index.jsonl"
HEADER = {"avsr_pack": 1}
REPAIR_HINT = "copy the pack again, or remove it and prepare it anew"
MEMORY_BYTES = 2 << 30
"""Decoded clips that are kept, by default: an hour takes about 1 GB with lips, 230 MB without."""

Spans = tuple[tuple[int, int], ...]
"""Where something is so: from tick to before tick."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance: its file as the corpus names it, who speaks, what is said and when, its length.

    ``words`` is empty where it is not known when each word of ``text`` is said.
    """

    path: str
    speaker: str
    split: str
    text: str
    words: tuple[AlignedWord, ...]
    num_ticks: int


@dataclass(frozen=True, slots=True)
class Media:
    """Where a clip's bytes are, where its senses are present, and how well they fit (see ``avsr.lips.sync``).

    ``is_filmed`` tells a film without a face from a sound recording.
    """

    shard: int
    offset_bytes: int
    num_audio_bytes: int
    num_lips_bytes: int
    crc32: int
    heard: Spans
    visible: Spans
    is_filmed: bool
    sync_percent: tuple[int, ...] | None

    @property
    def end_bytes(self) -> int:
        """Where the next clip of the shard may begin."""
        return self.offset_bytes + self.num_audio_bytes + self.num_lips_bytes


@dataclass(frozen=True, slots=True)
class ClipData:
    """``audio`` f32 (640 T,); ``lips`` u8 (T, 96, 96); ``heard`` and ``visible`` bool (T,): where each is present."""

    audio: FloatArray
    lips: ByteArray
    heard: BoolArray
    visible: BoolArray

    @property
    def num_ticks(self) -> int:
        """Ticks in this piece (T)."""
        return len(self.visible)

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return self.audio.nbytes + self.lips.nbytes + self.heard.nbytes + self.visible.nbytes

    def cut(self, first: int, last: int) -> ClipData:
        """Return the ticks from ``first`` to before ``last``."""
        span = slice(first, last)
        audio = self.audio[first * TICK_SAMPLES : last * TICK_SAMPLES]
        return ClipData(audio, self.lips[span], self.heard[span], self.visible[span])

    def copy(self) -> ClipData:
        """Return the same in memory of its own."""
        return ClipData(self.audio.copy(), self.lips.copy(), self.heard.copy(), self.visible.copy())


class MemoryBudget:
    """A budget of memory for decoded clips. Readers may share one, which bounds a process that reads many packs."""

    def __init__(self, num_bytes: int = MEMORY_BYTES) -> None:
        self._left_bytes = num_bytes

    def take(self, num_bytes: int) -> bool:
        """Take ``num_bytes`` for good; return False, and take nothing, where less is left."""
        is_enough = num_bytes <= self._left_bytes
        self._left_bytes -= num_bytes if is_enough else 0
        return is_enough


class PreparedCorpus:
    """Reads a pack. Decoded clips stay in memory as far as ``budget`` allows (None: a budget of its own)."""

    def __init__(self, directory: Path, budget: MemoryBudget | None = None) -> None:
        # Sorted, since the order in which parallel processes prepared the clips is random.
        self._media = dict(sorted(read_index(directory), key=lambda entry: _order(entry[0])))
        self.clips = tuple(self._media)
        self._directory = directory
        self._memory: dict[Clip, ClipData] = {}  # with the lips of visible ticks only
        self.budget = MemoryBudget() if budget is None else budget

    def select(self, *splits: str) -> list[Clip]:
        """Return the clips of these splits."""
        return [clip for clip in self.clips if clip.split in splits]

    def media(self, clip: Clip) -> Media:
        """Return what the pack knows of a clip without decoding it."""
        return self._media[clip]

    def load(self, clip: Clip) -> ClipData:
        """Decode one clip; what is returned belongs to the caller.

        Raises:
            InputError: the clip's bytes are missing or damaged.
            MissingExtraError: soundfile is not installed.
        """
        if clip in self._memory:
            kept = self._memory[clip]
            lips = np.zeros((kept.num_ticks, *kept.lips.shape[1:]), np.uint8)
            lips[kept.visible] = kept.lips
            return ClipData(kept.audio.copy(), lips, kept.heard.copy(), kept.visible.copy())
        data = self._decode(clip, self._media[clip])
        kept = replace(data, lips=data.lips[data.visible])  # most of a recording without a picture would be black
        if self.budget.take(kept.num_bytes):
            self._memory[clip] = kept.copy()
        return data

    def sound(self, clip: Clip) -> FloatArray:
        """Decode the sound of one clip alone, f32 (640 T,).

        Raises:
            InputError: the clip's bytes are missing or damaged.
            MissingExtraError: soundfile is not installed.
        """
        media = self._media[clip]
        with self._bytes_of(clip, media) as data:
            return decode_audio(data[: media.num_audio_bytes], clip.num_ticks * TICK_SAMPLES)

    def _decode(self, clip: Clip, media: Media) -> ClipData:
        with self._bytes_of(clip, media) as data:
            audio = decode_audio(data[: media.num_audio_bytes], clip.num_ticks * TICK_SAMPLES)
            lips = decode_lips(data[media.num_audio_bytes :], clip.num_ticks)
        heard, visible = (_mask(spans, clip.num_ticks) for spans in (media.heard, media.visible))
        lips[~visible] = 0
        return ClipData(audio, lips, heard, visible)

    @contextmanager
    def _bytes_of(self, clip: Clip, media: Media) -> Iterator[bytes]:
        """Read the bytes of a clip; add their place to the message of an InputError in the body."""
        path = shard_path(self._directory, media.shard)
        try:
            with path.open("rb") as shard:
                shard.seek(media.offset_bytes)
                data = shard.read(media.num_audio_bytes + media.num_lips_bytes)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error}); {REPAIR_HINT}") from error
        if zlib.crc32(data) != media.crc32:
            raise InputError(f"{path}: {clip.path} is damaged in it; {REPAIR_HINT}")
        try:
            yield data
        except InputError as error:
            raise InputError(f"{path}: {clip.path}: {error}; {REPAIR_HINT}") from error


def read_index(directory: Path) -> list[tuple[Clip, Media]]:
    """Read what a pack holds, in the order in which it was written; words whose times cannot be used are left out.

    Raises:
        InputError: there is no pack, or it is of another format, or a line is no clip.
    """
    return [(clip if is_timed(clip) else replace(clip, words=()), media) for clip, media in read_raw_index(directory)]


def read_raw_index(directory: Path) -> list[tuple[Clip, Media]]:
    """Read what `read_index` does, but keep words whose times cannot be used.

    Raises:
        InputError: as `read_index`.
    """
    path = directory / INDEX_FILE
    try:
        *lines, _unfinished = path.read_text(encoding="utf-8").split("\n")
        header = json.loads(lines[0]) if lines else None
    except (OSError, ValueError) as error:
        raise InputError(f"{directory}: not a pack ({error}); make one with `avsr prepare`") from error
    if header != HEADER:
        raise InputError(f"{directory}: a pack of another format ({header}); remove it and prepare it anew")
    try:
        return [_read_line(line) for line in lines[1:]]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: a line is not a clip ({error}); {REPAIR_HINT}") from error


def fingerprint(directory: Path, splits: Collection[str]) -> str:
    """Return a hash of the clips of these splits, their bytes and metadata; it does not depend on their order.

    Raises:
        InputError: as for `read_index`.
    """
    fields = (
        _clip_fields(clip) | {"crc32": media.crc32} for clip, media in read_index(directory) if clip.split in splits
    )
    return hashlib.sha256("\n".join(sorted(map(json.dumps, fields))).encode()).hexdigest()[:16]


def index_line(clip: Clip, media: Media) -> str:
    """Return the line that `read_index` reads back."""
    return json.dumps(_clip_fields(clip) | asdict(media)) + "\n"


def shard_path(directory: Path, shard: int) -> Path:
    """Return where a shard lies."""
    return directory / f"shard-{shard:05d}.bin"


def spans_of(mask: BoolArray) -> Spans:
    """Return where ``mask`` bool (T,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(first), int(last)) for first, last in edges.reshape(-1, 2))


def is_timed(clip: Clip) -> bool:
    """Tell whether the words of ``clip`` can be used (see `are_timed`)."""
    return are_timed(clip.words, clip.text, clip.num_ticks * TICK_S)


def _clip_fields(clip: Clip) -> dict[str, Any]:
    """Return the fields of ``clip`` in a line of the index."""
    return asdict(clip) | {"words": [(word.text, word.start_s, word.end_s) for word in clip.words]}


def _order(clip: Clip) -> tuple[str, str, str, str]:
    return clip.path, clip.speaker, clip.split, clip.text


def _mask(spans: Spans, num_ticks: int) -> BoolArray:
    mask = np.zeros(num_ticks, np.bool_)
    for first, last in spans:
        mask[first:last] = True
    return mask


def _read_line(line: str) -> tuple[Clip, Media]:
    fields = json.loads(line)
    words = tuple(AlignedWord(*word) for word in fields.pop("words"))
    clip = Clip(words=words, **{name: fields.pop(name) for name in ("path", "speaker", "split", "text", "num_ticks")})
    for name in ("heard", "visible"):
        fields[name] = tuple((first, last) for first, last in fields[name])
    sync = fields.pop("sync_percent")
    return clip, Media(**fields, sync_percent=None if sync is None else tuple(sync))
