"""Prepare a corpus as a pack: through the engine's own front end, in parallel, resumable."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avsr.corpora import AlignedWord, Utterance, name_in, read_senses
from avsr.disk import writing
from avsr.errors import InputError, MediaError, MissingExtraError
from avsr.frontend import SenseTicks
from avsr.lips.sync import QUIET_DB, correlate
from avsr.train.packs.codec import encode_audio, encode_lips
from avsr.train.packs.reader import Clip, is_timed, spans_of
from avsr.train.packs.workers import map_in_processes, num_cores
from avsr.train.packs.writer import EncodedClip, PackWriter
from avsr.types import TICK_S, FloatArray

FAILED_FILE = "failed.tsv"
KILLED = "the process that read it was ended: the file breaks its decoder, or needs more memory than there is"


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of `prepare`, in media files; ``failed`` has the reason for each file that cannot be used.

    ``num_dropped`` is the number of clips that were removed from the pack because the corpus does not list their file.
    """

    num_done: int
    num_files: int
    failed: dict[str, str]
    num_dropped: int


def prepare(
    utterances: Sequence[Utterance],
    root: Path,
    directory: Path,
    *,
    jobs: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Make ``directory`` the pack of ``utterances``; files are named relative to ``root``.

    Files that are in the pack already are not read again, unless they are shorter than the corpus states; their texts,
    speakers and splits are updated. Clips of files that are not listed are removed. Word times in the pack, which
    `align` may have found, are kept where the corpus has none. A file that cannot be used, is damaged or cut off, or
    has an unusable transcript, is listed in ``failed.tsv`` and skipped; the next run tries it again. ``jobs`` is the
    number of processes (default: all cores). The next run resumes one that was killed.

    Raises:
        InputError: no file can be used, or ``directory`` holds the pack of another corpus.
        MissingExtraError: PyAV or MediaPipe is not installed.
    """
    files: dict[str, list[Utterance]] = {}
    failed: dict[str, str] = {}
    for utterance in utterances:
        name = name_in(root, utterance.path)
        if utterance.problem is None:
            files.setdefault(name, []).append(utterance)
        else:
            failed[name] = utterance.problem
    num_files, num_untold = len(files) + len(failed), len(failed)
    with PackWriter(directory) as pack:
        known = {clip.path: (clip.num_ticks, media) for clip, media in pack.entries}
        there = [clip for clip, _ in pack.entries]
        times = {(clip.path, clip.text): clip.words for clip in there}
        if known and not known.keys() & files.keys():
            raise InputError(f"{directory}: holds the pack of another corpus; choose another directory")
        short = {name: lack for name, entry in known.items() if (lack := _shortfall(files.get(name, []), entry[0]))}
        if known and len(short) == len(known):
            raise InputError(
                f"{directory}: all clips in it are too short ({next(iter(short.values()))}); correct the table's "
                "column seconds, or remove the pack to read the files again"
            )
        known = {name: entry for name, entry in known.items() if name not in short}
        ready = [(name, *known[name]) for name in files if name in known]
        clips = [(clip, media) for name, ticks, media in ready for clip in _clips(name, files[name], ticks)]
        pack.keep([(_timed(clip, times.get((clip.path, clip.text), ())), media) for clip, media in clips])
        paths = {files[name][0].path: name for name in files if name not in known}
        if paths:
            (directory / FAILED_FILE).unlink(missing_ok=True)  # until all is done again, the pack is not finished
        num_dropped = sum(clip.path not in files and clip.path not in failed for clip in there)
        on_progress(Progress(num_untold + len(ready), num_files, failed, num_dropped))
        for num_done, (path, result) in enumerate(
            map_in_processes(list(paths), _try_to_encode, jobs or num_cores()), num_untold + len(ready) + 1
        ):
            name = paths[path]
            if not isinstance(result, EncodedClip):
                failed[name] = result or KILLED
            elif shortfall := _shortfall(files[name], result.num_ticks):
                failed[name] = shortfall
            else:
                pack.add(_clips(name, files[name], result.num_ticks), result)
            on_progress(Progress(num_done, num_files, failed, num_dropped))
        _write_failed(directory / FAILED_FILE, failed)
        if not pack.entries:
            reason = next(iter(failed.values()), "the corpus is empty")
            raise InputError(f"{directory}: nothing could be prepared; the first reason: {reason}")
    return Progress(num_files, num_files, failed, num_dropped)


def encode(path: Path) -> EncodedClip:
    """Read one file through the engine's front end.

    Raises:
        MediaError: the file cannot be used, or not all of it.
        InputError: there is neither sound nor a face in it.
    """
    senses = read_senses(path, "av", must_be_whole=True)
    openings = [lip.mouth_opening if lip.visible else None for lip in senses.lips]
    if not senses.heard.any() and not senses.visible.any():
        raise InputError(f"{path}: neither sound nor a face is in it")
    return EncodedClip(
        num_ticks=senses.num_ticks,
        audio=encode_audio(senses.samples) if senses.heard.any() else b"",
        lips=encode_lips(np.stack([lip.gray for lip in senses.lips])) if senses.visible.any() else b"",
        heard=spans_of(senses.heard),
        visible=spans_of(senses.visible),
        is_filmed=bool(senses.visible.any()) or _has_pictures(path),
        sync_percent=correlate(openings, _loudness(senses)) if senses.heard.all() else None,
    )


def _has_pictures(path: Path) -> bool:
    from avsr.media import open_media  # it needs PyAV, which a machine that trains from a pack can do without

    try:
        open_media(path, "video").close()
    except MediaError:
        return False
    return True


def _loudness(senses: SenseTicks) -> FloatArray:
    levels = [senses.loudness_db(index) for index in range(senses.num_ticks)]
    return np.array([QUIET_DB if level is None else level for level in levels], np.float32)


def _shortfall(utterances: list[Utterance], num_ticks: int) -> str | None:
    """Return why a file is shorter than one of ``utterances`` states; None if it is not."""
    return next(filter(None, (utterance.shortfall(num_ticks * TICK_S) for utterance in utterances)), None)


def _clips(name: str, utterances: list[Utterance], num_ticks: int) -> list[Clip]:
    return [Clip(name, u.speaker, u.split, u.text, u.words, num_ticks) for u in utterances]


def _timed(clip: Clip, words: tuple[AlignedWord, ...]) -> Clip:
    """Return ``clip`` with ``words``, if there are any, unless the corpus has usable times."""
    return replace(clip, words=words) if words and not (clip.words and is_timed(clip)) else clip


def _try_to_encode(path: Path) -> EncodedClip | str:
    try:
        return encode(path)
    except MissingExtraError:
        raise
    except Exception as error:  # whatever is wrong with one file must not end the work on the others
        return " ".join(str(error).split()) or type(error).__name__


def _write_failed(path: Path, failed: dict[str, str]) -> None:
    with writing(path), path.open("w", encoding="utf-8", newline="", errors="replace") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n")
        writer.writerows([("path", "reason"), *sorted(failed.items())])
