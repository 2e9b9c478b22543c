"""The order of training data, and its random generators: pure functions of the seed, epoch, step and example.

No generator outlives a step. So a run resumes exactly by skipping the steps that are done, and neither the number of
processes nor that of workers changes any example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from avsr.train.batch import of_like_length
from avsr.train.packs.reader import Clip, PreparedCorpus
from avsr.train.recipe import StageConfig


@dataclass(frozen=True, slots=True)
class Source:
    """Training clips; ``repeat`` is how often each is used per epoch. Each epoch draws a fraction anew."""

    corpus: PreparedCorpus
    clips: list[Clip]
    repeat: float = 1.0


Group = list[tuple[Source, Clip]]
"""Clips that are joined to one example."""


class RngPurpose(IntEnum):
    """Purposes of random generators, each with a sequence of its own."""

    EPOCH = 1
    STEP = 2
    EXAMPLE = 3
    DROPOUT = 4


def make_rng(purpose: RngPurpose, seed: int, epoch: int, step: int = 0, index: int = 0) -> np.random.Generator:
    """Return the generator for one purpose at one place of the training."""
    # Always five numbers: numpy seeds (1, 2) and (1, 2, 0) alike.
    return np.random.default_rng((purpose, seed, epoch, step, index))


def plan_epoch(sources: list[Source], stage: StageConfig, epoch: int) -> list[list[Group]]:
    """Return the batches of an epoch: lists of groups, mostly of one clip; in some batches, of two to be joined."""
    rng = make_rng(RngPurpose.EPOCH, stage.seed, epoch)
    drawn = list(_draw(sources, rng))
    shuffled = [drawn[i] for i in rng.permutation(len(drawn))]
    batches: list[list[Group]] = []
    for batch in of_like_length(shuffled, stage.batch_size, lambda item: item[1].num_ticks, rng):
        if rng.random() < stage.augment.join_share:
            batch.sort(key=lambda item: item[1].speaker)
            batches.append([batch[i : i + 2] for i in range(0, len(batch), 2)])
        else:
            batches.append([[item] for item in batch])
    return batches


def share_of(num_items: int, index: int, count: int) -> range:
    """Return the contiguous range of ``num_items`` that is share ``index`` of ``count`` nearly equal ones."""
    return range(num_items * index // count, num_items * (index + 1) // count)


def _draw(sources: list[Source], rng: np.random.Generator) -> Iterator[tuple[Source, Clip]]:
    for source in sources:
        whole, part = divmod(source.repeat, 1.0)
        for clip in source.clips:
            for _ in range(int(whole) + (rng.random() < part)):
                yield source, clip
