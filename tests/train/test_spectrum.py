"""Masks of spectrograms: as many and as wide as was said, anywhere, and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from avsr.train.augment.spectrum import MaskConfig, mask_spectrum
from avsr.types import MELS_PER_TICK, NUM_MELS


@given(
    st.integers(0, 40),
    st.builds(
        MaskConfig,
        num_bands=st.integers(0, 3),
        band_mels=st.integers(0, NUM_MELS),
        num_moments=st.integers(0, 3),
        moment_ticks=st.integers(0, 12),
    ),
    st.integers(0, 99),
)
def test_masks_are_rows_and_columns_of_the_size_that_was_said(num_ticks: int, config: MaskConfig, seed: int) -> None:
    mel = torch.ones(MELS_PER_TICK * num_ticks, NUM_MELS)
    masked = mask_spectrum(mel, config, np.random.default_rng(seed)) == 0
    assert (mel == 1).all()
    bands, moments = masked.all(0), masked.all(1)
    if num_ticks and not bands.all() and not moments.all():
        assert torch.equal(masked, moments[:, None] | bands)
        assert int(bands.sum()) <= config.num_bands * config.band_mels
        assert int(moments.sum()) <= config.num_moments * config.moment_ticks * MELS_PER_TICK


def test_masks_come_everywhere_and_reach_the_size_that_was_said() -> None:
    config, rng = MaskConfig(band_mels=4, moment_ticks=1), np.random.default_rng(1)
    masked = [mask_spectrum(torch.ones(32, NUM_MELS), config, rng) == 0 for _ in range(400)]
    bands, moments = (torch.stack([each.all(axis) for each in masked]) for axis in (0, 1))
    for found, most in ((bands, 4), (moments, MELS_PER_TICK)):
        assert found.any(0).all()
        assert {int(count) for count in found.sum(1)} == set(range(most + 1))
