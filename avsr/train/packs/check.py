"""Report on a pack: what it holds, what is damaged, which clips look wrong. Nothing is decoded."""

from __future__ import annotations

import csv
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from avsr.lips.sync import best_lag, is_outlier
from avsr.train.packs.prepare import FAILED_FILE
from avsr.train.packs.reader import REPAIR_HINT, Clip, Media, Spans, is_timed, read_raw_index, shard_path
from avsr.types import TICK_MS, TICK_S

FACE_SHARE = 0.8
"""Filmed clips with a face for a smaller share of their time are reported."""
MIN_CURVES_PER_SPEAKER = 8
"""Clips needed to estimate a speaker's own offset between lips and sound; with fewer it is taken to be 0."""
SPEAKER_MARGIN = 0.1
"""By how much the mean correlation at another offset must be better: about twice its standard error."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """One split; durations in seconds."""

    split: str
    num_clips: int
    num_speakers: int
    total_s: float
    shortest_s: float
    median_s: float
    longest_s: float
    heard_share: float
    visible_share: float


@dataclass(frozen=True, slots=True)
class PackReport:
    """``findings`` are (what, what is wrong with it); ``failed`` (path, reason) of what is not in the pack."""

    splits: tuple[SplitReport, ...]
    num_bytes: int
    findings: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]


def check_pack(directory: Path) -> PackReport:
    """Report on the pack in ``directory``.

    Raises:
        InputError: there is no pack.
    """
    entries = read_raw_index(directory)
    splits = sorted({clip.split for clip, _ in entries})
    return PackReport(
        tuple(_split_report(split, [entry for entry in entries if entry[0].split == split]) for split in splits),
        sum(path.stat().st_size for path in directory.iterdir() if path.is_file()),
        (*_damage(directory, entries), *_faces(entries), *_offsets(entries), *_times(directory, entries)),
        _read_failed(directory / FAILED_FILE),
    )


def unused_times(directory: Path) -> tuple[tuple[str, str], ...]:
    """Return the finding, if any, that word times of the corpus cannot be used.

    Raises:
        InputError: there is no pack.
    """
    return tuple(_times(directory, read_raw_index(directory)))


def _damage(directory: Path, entries: Iterable[tuple[Clip, Media]]) -> Iterable[tuple[str, str]]:
    if not (directory / FAILED_FILE).exists():
        yield str(directory), "is not finished; run the command that prepared it again to resume"
    shards: dict[int, list[tuple[Clip, Media]]] = defaultdict(list)
    for clip, media in entries:
        shards[media.shard].append((clip, media))
    for shard, expected in sorted(shards.items()):
        path = shard_path(directory, shard)
        try:
            damaged = _damaged_clips(path, expected)
        except OSError as error:
            yield path.name, f"cannot be read ({error.strerror}), with {len(expected)} clips in it; {REPAIR_HINT}"
            continue
        if damaged:
            which = f"{len(damaged)} of the {len(expected)} clips in it are damaged or cut off (first: {damaged[0]})"
            yield path.name, f"{which}; {REPAIR_HINT}"


def _damaged_clips(path: Path, expected: Sequence[tuple[Clip, Media]]) -> list[str]:
    """Return the clips of which the shard ``path`` does not have the bytes."""
    damaged = []
    with path.open("rb") as shard:
        for clip, media in expected:
            shard.seek(media.offset_bytes)
            if zlib.crc32(shard.read(media.end_bytes - media.offset_bytes)) != media.crc32:
                damaged.append(clip.path)
    return damaged


def _times(directory: Path, entries: Iterable[tuple[Clip, Media]]) -> Iterable[tuple[str, str]]:
    unused = [clip.path for clip, _ in entries if clip.words and not is_timed(clip)]
    if unused:
        yield (
            str(directory),
            f"the word times of {len(unused)} clips are not used (first: {unused[0]}): they lie outside the clip, are "
            "out of order, or do not match its text",
        )


def _split_report(split: str, entries: Sequence[tuple[Clip, Media]]) -> SplitReport:
    ticks = [clip.num_ticks for clip, _ in entries]
    return SplitReport(
        split,
        len(entries),
        len({clip.speaker for clip, _ in entries}),
        sum(ticks) * TICK_S,
        min(ticks) * TICK_S,
        median(ticks) * TICK_S,
        max(ticks) * TICK_S,
        sum(_length(media.heard) for _, media in entries) / max(1, sum(ticks)),
        sum(_length(media.visible) for _, media in entries) / max(1, sum(ticks)),
    )


def _faces(entries: Iterable[tuple[Clip, Media]]) -> Iterable[tuple[str, str]]:
    for clip, media in entries:
        share = _length(media.visible) / max(1, clip.num_ticks)
        if media.is_filmed and share == 0:
            yield clip.path, "no face"
        elif media.is_filmed and share < FACE_SHARE:
            yield clip.path, f"a face for {100 * share:.0f} % of the time only"
        if not media.heard:
            yield clip.path, "no sound"


def _offsets(entries: Iterable[tuple[Clip, Media]]) -> Iterable[tuple[str, str]]:
    curves: dict[str, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
    for clip, media in entries:
        if media.sync_percent is not None:
            curves[clip.speaker].append((clip.path, media.sync_percent))
    for speaker, found in sorted(curves.items()):
        expected_lag, together = 0, np.mean([curve for _, curve in found], axis=0).tolist()
        if len(found) >= MIN_CURVES_PER_SPEAKER and is_outlier(together, 0, SPEAKER_MARGIN):
            expected_lag = best_lag(together)
            yield f"speaker {speaker}", f"lips {_describe_lag(expected_lag)} in all {len(found)} clips together"
        for path, curve in found:
            if is_outlier(curve, expected_lag):
                yield path, f"lips perhaps {_describe_lag(best_lag(curve))}"


def _describe_lag(lag_ticks: int) -> str:
    return f"{abs(lag_ticks) * TICK_MS} ms {'late' if lag_ticks > 0 else 'early'}"


def _length(spans: Spans) -> int:
    return sum(last - first for first, last in spans)


def _read_failed(path: Path) -> tuple[tuple[str, str], ...]:
    if not path.exists():
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\"))
    return tuple((row[0], row[1]) for row in rows[1:] if len(row) == 2)
