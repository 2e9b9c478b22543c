"""Noise of every kind, of any length, as often as asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.train.augment.noise import NoiseSource, NoiseWeights
from avsr.types import FloatArray

ONLY = {
    name: NoiseWeights(**({"babble": 0.0, "talker": 0.0, "recorded": 0.0, "coloured": 0.0} | {name: 1.0}))
    for name in ("babble", "talker", "recorded", "coloured")
}


def levels(*values: float) -> list[FloatArray]:
    """Recordings that can be told by their level."""
    return [np.full(3_000 + index, value, np.float32) for index, value in enumerate(values)]


@pytest.mark.parametrize("kind", ONLY)
@pytest.mark.parametrize("num_samples", [1, 640, 10_000])
def test_noise_is_of_any_length_and_repeatable(kind: str, num_samples: int) -> None:
    source = NoiseSource(levels(0.1, 0.2, 0.3), levels(0.4))
    noise, again = (source.draw(num_samples, np.random.default_rng(1), ONLY[kind]) for _ in range(2))
    assert noise.shape == (num_samples,)
    assert noise.dtype == np.float32
    assert np.array_equal(noise, again)
    if num_samples > 1:
        assert np.abs(noise).max() > 0


def test_one_talker_is_one_voice() -> None:
    source = NoiseSource(levels(0.1, 0.2), levels(0.4))
    heard = {float(np.unique(source.draw(640, np.random.default_rng(i), ONLY["talker"]))[0]) for i in range(20)}
    assert heard == {float(np.float32(0.1)), float(np.float32(0.2))}


def test_a_pause_in_a_recording_is_no_noise() -> None:
    """Raised to a level, what a codec leaves of a pause would be a noise that nobody hears."""
    half_quiet = np.full(32_000, 1e-4, np.float32)
    half_quiet[8_000:20_000] = 0.5
    source = NoiseSource([], [half_quiet])
    for seed in range(30):
        assert source.draw(1_600, np.random.default_rng(seed), ONLY["recorded"]).max() == 0.5


def test_kinds_come_as_often_as_they_weigh() -> None:
    source = NoiseSource(levels(0.1), levels(0.4))
    weights = NoiseWeights(babble=0.0, talker=1.0, recorded=3.0)
    rng = np.random.default_rng(1)
    counts = Counter(round(float(source.draw(8, rng, weights)[0]), 1) for _ in range(400))
    assert counts.keys() == {0.1, 0.4}
    assert counts[0.4] == pytest.approx(300, abs=40)


def test_a_kind_of_which_there_is_nothing_does_not_come() -> None:
    rng = np.random.default_rng(1)
    assert all((NoiseSource([], levels(0.4)).draw(9, rng, NoiseWeights()) == np.float32(0.4)).all() for _ in range(9))
    assert NoiseSource([], []).draw(9, rng, ONLY["coloured"]).any()
    with pytest.raises(InputError, match="nor noises"):
        NoiseSource([], []).draw(9, rng, NoiseWeights())
