"""From clips to the input of optimiser steps, prepared in advance by any number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avsr.config import ModelConfig
from avsr.errors import AvsrError
from avsr.nn.attention import Window
from avsr.train.augment.examples import Example, augment, swap_lips
from avsr.train.augment.noise import NoiseSource
from avsr.train.augment.senses import without_video
from avsr.train.augment.words import WordDonors, swap_words
from avsr.train.batch import Batch, Collator
from avsr.train.packs.reader import Clip, ClipData, Media, PreparedCorpus
from avsr.train.plan import Group, RngPurpose, Source, make_rng, plan_epoch, share_of
from avsr.train.recipe import StageConfig
from avsr.train.stopping import leave_terminal_to_parent
from avsr.types import TICK_S


@dataclass(frozen=True, slots=True)
class Position:
    """The ``step``-th optimiser step of an epoch, both from 0."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Part:
    """One forward and backward pass: a batch (None if there were fewer examples than parts) and its dropout seed."""

    batch: Batch | None
    seed: int


@dataclass(frozen=True, slots=True)
class Step:
    """One process's share of an optimiser step; ``num_steps`` is the epoch's."""

    num_steps: int
    window: Window
    parts: tuple[Part, ...]


class StepMaker(Dataset[Step]):
    """Makes any step of a stage, for process ``rank`` of ``num_processes``.

    A batch is split into ``num_processes`` x ``stage.accumulate`` parts. Their number decides which examples are padded
    together, but changes no example.
    """

    def __init__(
        self,
        sources: list[Source],
        stage: StageConfig,
        collator: Collator,
        noise: NoiseSource,
        sizes: ModelConfig,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._sources, self._stage, self._collator, self._noise = sources, stage, collator, noise
        self._sizes, self._rank, self._num_processes = sizes, rank, num_processes
        self._word_donors = _word_donors(sources) if stage.augment.word_swap_share else {}
        self._planned: tuple[int, list[list[Group]]] | None = None

    def num_steps(self, epoch: int) -> int:
        """Return how many steps an epoch has."""
        return len(self._plan(epoch))

    def positions(self, first: Position) -> Iterator[Position]:
        """Yield the positions from ``first`` to the end of the stage."""
        for epoch in range(first.epoch, self._stage.epochs):
            for step in range(first.step if epoch == first.epoch else 0, self.num_steps(epoch)):
                yield Position(epoch, step)

    def __getitem__(self, position: Position) -> Step:
        plan, stage = self._plan(position.epoch), self._stage
        groups = plan[position.step]
        first, num_parts = self._rank * stage.accumulate, self._num_processes * stage.accumulate
        with _one_thread():
            parts = tuple(
                self._part(position, groups, part, num_parts) for part in range(first, first + stage.accumulate)
            )
        return Step(len(plan), self._window(position), parts)

    def _window(self, position: Position) -> Window:
        rng = make_rng(RngPurpose.STEP, self._stage.seed, position.epoch, position.step)
        chunk_ticks, most = int(rng.choice(self._sizes.chunk_sizes)), self._sizes.left_context_ticks
        least = self._stage.left_context_low_ticks
        return Window(chunk_ticks, most if least is None else int(rng.integers(least, most, endpoint=True)))

    def _part(self, position: Position, groups: list[Group], part: int, num_parts: int) -> Part:
        place = position.epoch, position.step
        seed = int(make_rng(RngPurpose.DROPOUT, self._stage.seed, *place, part).integers(1 << 62))
        mine = share_of(len(groups), part, num_parts)
        if not mine:
            return Part(None, seed)
        rngs = [make_rng(RngPurpose.EXAMPLE, self._stage.seed, *place, index) for index in mine]
        examples = []
        for index, rng in zip(mine, rngs, strict=True):
            example = self._example(groups[index], rng)

            def neighbour(index: int = index) -> Example:
                before = (index - 1) % len(groups)
                return self._example(groups[before], make_rng(RngPurpose.EXAMPLE, self._stage.seed, *place, before))

            share = self._stage.augment.lip_swap_share if len(groups) > 1 else 0.0
            examples.append(swap_lips(example, neighbour, share, rng))
        return Part(self._collator(examples, self._stage.augment.mask, rngs), seed)

    def _example(self, group: Group, rng: np.random.Generator) -> Example:
        config, lips_match = self._stage.augment, True
        keeps_lips = rng.random() < config.kept_lips_share
        clips: list[tuple[Clip, ClipData]] = []
        for source, clip in group:
            said, data = clip, source.corpus.load(clip)
            if config.word_swap_share:
                donors = self._word_donors[source.corpus]
                said, data = swap_words(clip, data, donors, source.corpus.load, config.word_swap_share, rng)
            # Even where a word was replaced by the same word: the lips are no longer in time with it.
            if said is not clip and data.visible.any():
                lips_match = not keeps_lips
                data = data if keeps_lips else without_video(data, data.visible)
            clips.append((said, data))
        return augment(clips, config, self._noise, rng, lips_match=lips_match)

    def _plan(self, epoch: int) -> list[list[Group]]:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, plan_epoch(self._sources, self._stage, epoch)
        return self._planned[1]


class _ReturnsErrors(Dataset[Step | AvsrError]):
    """Returns errors instead of raising them, since DataLoader re-raises those of workers as text with a traceback."""

    def __init__(self, maker: StepMaker) -> None:
        self._maker = maker

    def __getitem__(self, position: Position) -> Step | AvsrError:
        try:
            return self._maker[position]
        except AvsrError as error:
            return error


def make_steps(maker: StepMaker, first: Position, *, workers: int) -> Iterator[Step]:
    """Yield the steps from ``first`` on, in order, made ahead by ``workers`` processes, or here when asked for (0).

    Raises:
        AvsrError: a clip is damaged, or a worker died.
    """
    loader: DataLoader[Step | AvsrError] = DataLoader(
        _ReturnsErrors(maker),
        batch_size=None,
        sampler=maker.positions(first),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_init_worker,
    )
    steps = iter(loader)
    while True:
        try:
            step = next(steps)
        except StopIteration:
            return
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), "")
            if not reason.startswith("DataLoader worker"):
                raise
            # It was killed, most likely for want of memory.
            raise AvsrError(f"{reason}; use fewer --workers to save memory; the same command resumes") from error
        if isinstance(step, AvsrError):
            raise step
        yield step


def _word_donors(sources: list[Source]) -> dict[PreparedCorpus, WordDonors]:
    """Return the donors of each corpus: clips with sound for every word, since silence would pass for a word."""
    clips: dict[PreparedCorpus, list[Clip]] = {}
    for source in sources:
        heard = [clip for clip in source.clips if _is_heard(clip, source.corpus.media(clip))]
        clips.setdefault(source.corpus, []).extend(heard)
    return {corpus: WordDonors(donors) for corpus, donors in clips.items()}


def _is_heard(clip: Clip, media: Media) -> bool:
    """Tell whether there is sound from the first word to the last."""
    ticks = [time_s / TICK_S for word in clip.words for time_s in (word.start_s, word.end_s)]
    return bool(ticks) and any(first <= min(ticks) and max(ticks) <= last for first, last in media.heard)


def _init_worker(_: int) -> None:
    leave_terminal_to_parent()
    cv2.setNumThreads(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, as workers do: the rounding of sums depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
