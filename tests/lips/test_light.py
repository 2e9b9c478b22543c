"""Dim mouths are made bright, and others are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.lips.light import DIM_LEVEL, brighten
from avsr.types import LIP_SIZE, ByteArray


def mouth(brightness: float, seed: int = 0) -> ByteArray:
    shade = np.random.default_rng(seed).uniform(0.4, 1.6, size=(LIP_SIZE, LIP_SIZE))
    return np.clip(shade * brightness, 0, 255).astype(np.uint8)


@given(brightness=st.floats(DIM_LEVEL + 5, 255), seed=st.integers(0, 99))
def test_a_mouth_of_usual_brightness_is_left_as_it_is(brightness: float, seed: int) -> None:
    lips = mouth(brightness, seed)
    assert (brighten(lips) == lips).all()


@given(brightness=st.floats(8, DIM_LEVEL - 1), seed=st.integers(0, 99))
def test_a_dim_mouth_is_as_bright_as_one_that_just_is_not_and_looks_the_same(brightness: float, seed: int) -> None:
    lips = brighten(mouth(brightness, seed))
    assert lips.mean() == pytest.approx(DIM_LEVEL, rel=0.02)
    assert np.corrcoef(lips.ravel(), mouth(DIM_LEVEL, seed).ravel())[0, 1] > 0.99


def test_what_is_black_stays_black() -> None:
    black = np.zeros((LIP_SIZE, LIP_SIZE), np.uint8)
    assert not brighten(black).any()


def test_the_middle_counts_not_a_bright_window_beside_the_face() -> None:
    lips = mouth(30)
    lips[:, : LIP_SIZE // 10] = 255
    assert brighten(lips)[40:56, 40:56].mean() > 2 * lips[40:56, 40:56].mean()
