"""Word times for clips whose corpus has none: forced alignment of their text with PocketSphinx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from avsr.corpora import AlignedWord
from avsr.errors import InputError
from avsr.evaluate.sphinx import SphinxAligner, require_pocketsphinx
from avsr.train.packs.codec import require_soundfile
from avsr.train.packs.reader import INDEX_FILE, Clip, Media, MemoryBudget, PreparedCorpus
from avsr.train.packs.workers import map_in_processes, num_cores
from avsr.train.packs.writer import PackWriter

KEEP_EVERY = 500
"""The index is rewritten after so many aligned clips, so that a kill loses no more."""


def align(
    directory: Path, *, jobs: int | None = None, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, list[tuple[str, str]]]:
    """Find the times of the words of every clip that has a text and a sound, and no times; keep them in the pack.

    English only. Training makes use of them: see `Collator`. ``jobs`` is the number of processes (all processors).
    ``on_progress`` is told how many of how many clips are done.

    Returns:
        The number of clips that were aligned; and the path and the reason of each that was not, which the next call
        tries again.

    Raises:
        InputError: there is no pack, its shards are not all there, or another process is writing it.
        MissingExtraError: PocketSphinx or soundfile is not installed.
    """
    require_aligner()
    if not (directory / INDEX_FILE).exists():
        raise InputError(f"{directory}: not a pack; make one with `avsr prepare SOURCE -o PACK`")
    with PackWriter(directory, must_be_whole=True) as pack:
        untimed = [clip for clip, media in pack.entries if _can_be_aligned(clip, media)]
        found: dict[Clip, Clip] = {}
        num_found, missed = 0, []

        def keep() -> None:
            pack.keep([(found.get(clip, clip), media) for clip, media in pack.entries])
            found.clear()

        on_progress(0, len(untimed))
        try:
            for num_done, (clip, words) in enumerate(
                map_in_processes(untimed, partial(_align, directory), jobs or num_cores()), 1
            ):
                if isinstance(words, tuple):
                    found[clip] = replace(clip, words=words)
                    num_found += 1
                else:
                    missed.append((clip.path, words or "the process that aligned it was ended"))
                if len(found) >= KEEP_EVERY:
                    keep()
                on_progress(num_done, len(untimed))
        finally:
            keep()
    return num_found, missed


def require_aligner() -> None:
    """Find out whether what `align` needs is installed.

    Raises:
        MissingExtraError: PocketSphinx or soundfile is not.
    """
    require_pocketsphinx()
    require_soundfile()


def _can_be_aligned(clip: Clip, media: Media) -> bool:
    return bool(clip.text.strip() and not clip.words and media.heard)


def _align(directory: Path, clip: Clip) -> tuple[AlignedWord, ...] | str:
    """Return the words and their times, or why there are none."""
    corpus, aligner = _open(directory)
    try:
        return aligner.align(corpus.sound(clip), clip.text) or "a word is not in the dictionary, or not what is said"
    except InputError as error:  # what is wrong with one clip must not end the work on the others
        return str(error)


@cache
def _open(directory: Path) -> tuple[PreparedCorpus, SphinxAligner]:
    """Open both once a process."""
    return PreparedCorpus(directory, MemoryBudget(0)), SphinxAligner()
