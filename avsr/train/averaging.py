"""Means of weights: over the steps of a stage (EMA), and over its last epochs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from avsr.train.objective import Objective, Weights


class MovingAverage:
    """An exponential moving average of a network's weights (Polyak and Juditsky 1992), itself a network.

    The statistics of batch normalisation are averaged alike: they describe the pictures as the averaged weights' own
    recent past saw them. The decay is less in the first steps, so that the random beginning is soon forgotten.
    """

    def __init__(self, objective: Objective, decay: float) -> None:
        self.objective = copy.deepcopy(objective).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, objective: Objective, num_steps: int) -> None:
        """Take in the weights after ``num_steps`` steps."""
        decay = min(self._decay, (1 + num_steps) / (10 + num_steps))
        for mean, value in zip(self.objective.state_dict().values(), objective.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def average_weights(several: Sequence[Weights]) -> Weights:
    """Return the mean of weights of the same sizes; of counters, the last.

    The means and variances of batch normalisation are averaged too, which is close enough for weights that lie close
    together; validate the result before using it.
    """
    return {
        part: {
            name: torch.stack([weights[part][name] for weights in several]).mean(0) if x.is_floating_point() else x
            for name, x in several[-1][part].items()
        }
        for part in several[-1]
    }
