"""Frequency and time masks in spectrograms (Park et al. 2019, "SpecAugment")."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from avsr.config import Section
from avsr.types import MELS_PER_TICK, NUM_MELS


class MaskConfig(Section):
    """Number and size of masks: ``num_bands`` of up to ``band_mels`` of the 80 mel bands, ``num_moments`` of up to
    ``moment_ticks``, whatever the length of the clip.
    """

    num_bands: Annotated[int, Field(ge=0)] = 1
    band_mels: Annotated[int, Field(ge=0, le=NUM_MELS)] = 20
    num_moments: Annotated[int, Field(ge=0)] = 1
    moment_ticks: Annotated[int, Field(ge=0)] = 3


def mask_spectrum(mel: torch.Tensor, config: MaskConfig, rng: np.random.Generator) -> torch.Tensor:
    """Return a log-mel spectrogram f32 (T, 80) with masks at the bands' mean, which is 0: it is normalised."""
    mel = mel.clone()
    for _ in range(config.num_bands):
        width = int(rng.integers(config.band_mels + 1))
        low = int(rng.integers(NUM_MELS - width + 1))
        mel[:, low : low + width] = 0.0
    for _ in range(config.num_moments):
        length = min(len(mel), int(rng.integers(config.moment_ticks * MELS_PER_TICK + 1)))
        start = int(rng.integers(len(mel) - length + 1))
        mel[start : start + length] = 0.0
    return mel
