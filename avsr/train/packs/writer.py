"""Writing a pack clip by clip: a kill at any moment leaves a valid pack that the next run continues."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from avsr.disk import lock, whole_file, writing
from avsr.errors import InputError
from avsr.train.packs.reader import (
    HEADER,
    INDEX_FILE,
    REPAIR_HINT,
    Clip,
    Media,
    Spans,
    index_line,
    read_index,
    shard_path,
)

SHARD_BYTES = 60_000_000


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """One media file as it is stored in a pack; see ``Media`` for the fields."""

    num_ticks: int
    audio: bytes
    lips: bytes
    heard: Spans
    visible: Spans
    is_filmed: bool
    sync_percent: tuple[int, ...] | None


class PackWriter:
    """Opens or begins the pack in ``directory``; one writer at a time.

    ``entries`` is what the pack holds. Clips whose bytes are missing from the shards, as after a power cut, are
    dropped; with ``must_be_whole`` they are an error.

    Raises:
        InputError: the directory cannot be written, holds something else, lacks bytes with ``must_be_whole``, or
            another process is writing it.
    """

    def __init__(self, directory: Path, shard_bytes: int = SHARD_BYTES, *, must_be_whole: bool = False) -> None:
        self._directory, self._shard_bytes = directory, shard_bytes
        self._lock = lock(directory)
        self._index: IO[str] | None = None
        found = read_index(directory) if (directory / INDEX_FILE).exists() else []
        sizes = {shard: _size(shard_path(directory, shard)) for shard in {media.shard for _, media in found}}
        self.entries = [(clip, media) for clip, media in found if media.end_bytes <= sizes[media.shard]]
        if must_be_whole and (num_lost := len(found) - len(self.entries)):
            self._lock.close()
            raise InputError(f"{directory}: its shards lack {num_lost} of its {len(found)} clips; {REPAIR_HINT}")
        self._shard = max((media.shard for _, media in self.entries), default=0)
        self._end_bytes = max((media.end_bytes for _, media in self.entries if media.shard == self._shard), default=0)
        self.keep(self.entries)

    def keep(self, entries: Sequence[tuple[Clip, Media]]) -> None:
        """Rewrite the index with exactly ``entries``.

        Raises:
            InputError: it cannot be written, as where the disk is full.
        """
        if self._index is not None:
            self._index.close()
        path = self._directory / INDEX_FILE
        lines = [json.dumps(HEADER) + "\n", *(index_line(clip, media) for clip, media in entries)]
        with whole_file(path) as index:
            index.writelines(line.encode() for line in lines)
        self.entries = list(entries)
        self._index = path.open("a", encoding="utf-8")

    def add(self, clips: Sequence[Clip], encoded: EncodedClip) -> None:
        """Write one media file; ``clips`` are all rows of the corpus that refer to it.

        Raises:
            InputError: it cannot be written, as where the disk is full.
        """
        data = encoded.audio + encoded.lips
        if self._end_bytes and self._end_bytes + len(data) > self._shard_bytes:
            self._shard, self._end_bytes = self._shard + 1, 0
        media = Media(
            self._shard,
            self._end_bytes,
            len(encoded.audio),
            len(encoded.lips),
            zlib.crc32(data),
            encoded.heard,
            encoded.visible,
            encoded.is_filmed,
            encoded.sync_percent,
        )
        path = shard_path(self._directory, self._shard)
        with writing(path), path.open("ab") as shard:
            shard.truncate(self._end_bytes)  # what a killed writer left
            shard.write(data)
            shard.flush()
            os.fsync(shard.fileno())
        self._end_bytes = media.end_bytes
        assert self._index is not None
        with writing(self._directory / INDEX_FILE):
            self._index.write("".join(index_line(clip, media) for clip in clips))
            self._index.flush()
        self.entries += [(clip, media) for clip in clips]

    def close(self) -> None:
        """Let others write."""
        if self._index is not None:
            self._index.close()
        self._lock.close()

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
