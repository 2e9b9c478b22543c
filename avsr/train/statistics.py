"""Log-mel statistics of a corpus, by which a model normalises its input from then on."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from avsr.config import FeatureConfig
from avsr.features import LogMel
from avsr.types import NUM_MELS, FloatArray

MIN_STD = 0.1
"""Lower bound, so that a nearly constant band is not amplified."""


def measure_features(utterances: Iterable[FloatArray]) -> FeatureConfig:
    """Return the per-band mean and deviation of the log-mel frames of ``utterances``, each f32 (640 n,)."""
    plain = LogMel(FeatureConfig(mel_mean=(0.0,) * NUM_MELS, mel_std=(1.0,) * NUM_MELS))
    count, total, squares = 0, torch.zeros(NUM_MELS, dtype=torch.float64), torch.zeros(NUM_MELS, dtype=torch.float64)
    for samples in utterances:
        mel = plain.parallel(torch.from_numpy(samples)).double()
        count, total, squares = count + len(mel), total + mel.sum(0), squares + mel.square().sum(0)
    mean = total / max(1, count)
    std = (squares / max(1, count) - mean.square()).clamp_min(0).sqrt().clamp_min(MIN_STD)
    return FeatureConfig(
        mel_mean=tuple(round(value, 4) for value in mean.tolist()),
        mel_std=tuple(round(value, 4) for value in std.tolist()),
    )
