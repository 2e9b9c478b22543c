"""What is learnt in which order, and by which dice: pure functions of the seed, the epoch, the step and the example.

No generator lives from one step to the next. So a run goes on exactly where it was by skipping what is done, and
neither the number of processes nor that of workers changes what any example looks like.
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
    """Clips to learn from; ``repeat`` is how often each comes an epoch (a fraction: that share, chosen anew)."""

    corpus: PreparedCorpus
    clips: list[Clip]
    repeat: float = 1.0


Group = list[tuple[Source, Clip]]
"""Clips that are joined to one example."""


class Dice(IntEnum):
    """What a generator is for: each purpose has numbers of its own."""

    EPOCH = 1
    STEP = 2
    EXAMPLE = 3
    DROPOUT = 4


def dice(purpose: Dice, seed: int, epoch: int, step: int = 0, index: int = 0) -> np.random.Generator:
    """Return the generator of one purpose at one place."""
    # Always five numbers: numpy takes (1, 2) and (1, 2, 0) for the same.
    return np.random.default_rng((purpose, seed, epoch, step, index))


def plan_epoch(sources: list[Source], stage: StageConfig, epoch: int) -> list[list[Group]]:
    """Return the batches of an epoch, each a list of clips to be joined: mostly single, now and then by twos."""
    rng = dice(Dice.EPOCH, stage.seed, epoch)
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
    """Return which of ``num_items`` fall to share ``index`` of ``count``: neighbours, as evenly as can be."""
    return range(num_items * index // count, num_items * (index + 1) // count)


def _draw(sources: list[Source], rng: np.random.Generator) -> Iterator[tuple[Source, Clip]]:
    for source in sources:
        whole, part = divmod(source.repeat, 1.0)
        for clip in source.clips:
            for _ in range(int(whole) + (rng.random() < part)):
                yield source, clip
