"""The learning rate, as a pure function of the progress of the stage."""

from __future__ import annotations

import math

from avsr.train.recipe import StageConfig

COSINE_FLOOR = 0.02
"""Half a cosine ends at this share of the peak."""


def learning_rate(stage: StageConfig, epochs_done: float) -> float:
    """Return the rate after ``epochs_done`` epochs, the step that is being taken counted in.

    It rises linearly to ``stage.learning_rate`` at ``warmup_epochs``; then ``cosine`` (Loshchilov and Hutter 2017)
    falls over the rest of the stage, ``noam`` (Vaswani et al. 2017) with the square root of time, and ``constant``
    stays.
    """
    warmup = stage.warmup_epochs
    if epochs_done < warmup:
        return stage.learning_rate * epochs_done / warmup
    if stage.schedule == "constant":
        return stage.learning_rate
    if stage.schedule == "noam":
        # Without a warm-up it falls from the end of the first epoch on.
        return stage.learning_rate * min(1.0, math.sqrt(max(warmup, 1.0) / max(epochs_done, 1e-9)))
    progress = min(1.0, (epochs_done - warmup) / max(1e-9, stage.epochs - warmup))
    return stage.learning_rate * (COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
