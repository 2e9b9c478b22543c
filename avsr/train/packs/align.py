"""When each word of a pack is said, where its corpus does not tell: found by PocketSphinx, which knows the text."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from avsr.corpora import AlignedWord
from avsr.errors import AvsrError, InputError
from avsr.evaluate.sphinx import SphinxAligner
from avsr.train.packs.pack import PackWriter
from avsr.train.packs.prepared import INDEX_FILE, Clip, ClipMemory, Media, PreparedCorpus
from avsr.train.packs.workers import open_executor

KEEP_EVERY = 500
"""After so many clips the pack is told what was found, so that a kill loses no more."""


def align(
    directory: Path, *, jobs: int | None = None, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, list[str]]:
    """Find the times of the words of every clip that has a text and a sound, and no times; keep them in the pack.

    English only. Training learns much from them: see `Collator`. ``jobs`` is the number of processes (all processors).
    ``on_progress`` is told how many of how many clips are done.

    Returns:
        How many clips have times now that had none, and the paths of those that still have none: a word is not in the
        dictionary, or the text is not what is said. They are tried again by the next call.

    Raises:
        InputError: there is no pack, it is damaged, or another process is writing it.
        MissingExtraError: PocketSphinx or soundfile is not installed.
    """
    if not (directory / INDEX_FILE).exists():
        raise InputError(f"{directory}: not a pack; make one with `avsr prepare`")
    SphinxAligner()  # whether it is installed is better known now
    with PackWriter(directory) as pack:
        untimed = [clip for clip, media in pack.entries if _can_be_aligned(clip, media)]
        found: dict[Clip, Clip] = {}
        missed: list[str] = []

        def keep() -> None:
            pack.keep([(found.get(clip, clip), media) for clip, media in pack.entries])
            found.clear()

        on_progress(0, len(untimed))
        executor = open_executor(min(jobs or os.cpu_count() or 1, max(1, len(untimed))))
        try:
            futures = {executor.submit(partial(_align, directory), clip): clip for clip in untimed}
            for num_done, future in enumerate(as_completed(futures), 1):
                clip, words = futures[future], future.result()
                if words:
                    found[clip] = replace(clip, words=words)
                else:
                    missed.append(clip.path)
                if len(found) == KEEP_EVERY:
                    keep()
                on_progress(num_done, len(untimed))
        except BrokenExecutor as error:
            raise AvsrError(f"{directory}: a process that aligned it was ended; run it again, which goes on") from error
        finally:
            executor.shutdown(cancel_futures=True)
            keep()
    return len(untimed) - len(missed), sorted(missed)


def _can_be_aligned(clip: Clip, media: Media) -> bool:
    return bool(clip.text.strip() and not clip.words and media.heard)


def _align(directory: Path, clip: Clip) -> tuple[AlignedWord, ...]:
    corpus, aligner = _open(directory)
    return aligner.align(corpus.load(clip).audio, clip.text)


@cache
def _open(directory: Path) -> tuple[PreparedCorpus, SphinxAligner]:
    """Open both once a process."""
    return PreparedCorpus(directory, ClipMemory(0)), SphinxAligner()
