"""Pictures that come late are found out by the lips, and moved."""

from __future__ import annotations

import numpy as np
import pytest

from avsr.frontend import SenseTicks
from avsr.live.offset import OffsetMeter
from avsr.types import LIP_SIZE, TICK_SAMPLES, LipFrame

GRAY = np.zeros((LIP_SIZE, LIP_SIZE), np.uint8)


def measured(late_ticks: int, *, num_ticks: int = 800, noise: float = 0.03, seed: int = 1) -> OffsetMeter:
    """Hear and see the same syllables, the lips late."""
    rng, meter = np.random.default_rng(seed), OffsetMeter()
    syllables = np.convolve(rng.random(num_ticks + 40) < 0.2, np.hanning(7), "same")
    opening = 0.05 + 0.3 * np.roll(syllables, late_ticks) + rng.normal(scale=noise, size=num_ticks + 40)
    level = 10 ** ((-50 + 25 * syllables) / 20)
    for start in range(20, 20 + num_ticks, 8):
        ticks = range(start, start + 8)
        samples = np.concatenate([rng.normal(scale=level[tick], size=TICK_SAMPLES) for tick in ticks])
        lips = tuple(LipFrame(GRAY, tick, True, None, float(opening[tick])) for tick in ticks)
        meter = meter.seen(SenseTicks(start, samples.astype(np.float32), np.ones(8, np.bool_), lips))
    return meter


@pytest.mark.parametrize("late_ticks", [-7, 4, 10])
def test_an_offset_is_measured(late_ticks: int) -> None:
    assert measured(late_ticks).late_ms == 40 * late_ticks


@pytest.mark.parametrize("late_ticks", [0, 1, -2])
def test_what_is_right_is_left_alone(late_ticks: int) -> None:
    assert measured(late_ticks).late_ms is None


def test_nothing_is_concluded_from_little_or_from_noise() -> None:
    assert measured(8, num_ticks=160).late_ms is None
    assert measured(8, noise=3.0).late_ms is None


def test_what_is_remembered_does_not_grow() -> None:
    meter = measured(0, num_ticks=2400)
    assert len(meter.openings) < 110
    assert meter.num_windows >= 20
