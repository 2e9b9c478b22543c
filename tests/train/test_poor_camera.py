"""Poor cameras: each fault by itself, and what a drawn camera can be."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.train.augment.camera import (
    JPEG_QUALITIES,
    MAX_COARSENESS,
    MAX_GRAIN,
    RATES_FPS,
    Camera,
    film,
    random_camera,
    ticks_taken,
)
from avsr.types import LIP_SIZE, TICK_S, ByteArray


def gradients(num_ticks: int) -> ByteArray:
    """Smooth pictures, each brighter than the last."""
    ramp = np.linspace(60, 120, LIP_SIZE)
    return (ramp + ramp[:, None] * 0.5 + np.arange(num_ticks)[:, None, None]).astype(np.uint8)


@given(st.integers(0, 200), st.floats(1.0, 25.0), st.floats(0, 1, exclude_max=True))
def test_a_slow_camera_shows_the_nearest_of_its_pictures(num_ticks: int, rate_fps: float, phase: float) -> None:
    taken, now = ticks_taken(num_ticks, rate_fps, phase), np.arange(num_ticks)
    period = 1 / (rate_fps * TICK_S)
    assert (np.diff(taken) >= 0).all()
    inside = (now > period) & (now < num_ticks - 1 - period)
    assert (abs(taken - now)[inside] <= period / 2 + 0.5 + 1e-6).all(), "half a period, and half a tick by rounding"
    assert len(np.unique(taken)) == pytest.approx(num_ticks / period, abs=2)


def test_a_camera_of_a_picture_each_tick_shows_every_one() -> None:
    assert ticks_taken(50, 1 / TICK_S, 0.0).tolist() == list(range(50))
    lips = gradients(3)
    assert np.array_equal(film(lips, Camera(), np.random.default_rng(1)), lips)


def test_grain_is_as_strong_as_asked_and_new_in_every_picture() -> None:
    lips = gradients(4)
    noise = film(lips, Camera(grain=10.0), np.random.default_rng(1)).astype(float) - lips
    assert noise.std() == pytest.approx(10, rel=0.05)
    assert abs(noise.mean()) < 0.3
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_a_held_picture_keeps_its_grain() -> None:
    filmed = film(gradients(6), Camera(rate_fps=5.0, grain=10.0), np.random.default_rng(1))
    assert np.array_equal(filmed[0], filmed[2])
    assert not np.array_equal(filmed[2], filmed[3])


def test_a_coarse_camera_takes_detail_and_keeps_brightness() -> None:
    lips = np.random.default_rng(1).integers(0, 256, (2, LIP_SIZE, LIP_SIZE)).astype(np.uint8)
    filmed = film(lips, Camera(coarseness=3.0), np.random.default_rng(1))
    assert filmed.astype(float).std() < 0.4 * lips.astype(float).std()
    assert filmed.mean() == pytest.approx(lips.mean(), abs=1)


def test_compression_costs_what_its_quality_says() -> None:
    lips = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (LIP_SIZE, LIP_SIZE)).astype(np.uint8), (0, 0), 2)
    losses = [
        np.abs(film(lips[None], Camera(quality=quality), np.random.default_rng(1)).astype(float) - lips).mean()
        for quality in (5, 30, 95)
    ]
    assert losses[0] > 2 * losses[1] > 2 * losses[2] > 0


def test_drawn_cameras_are_poor_in_every_way_and_in_none() -> None:
    cameras = [random_camera(np.random.default_rng(seed)) for seed in range(200)]
    rates = [camera.rate_fps for camera in cameras if camera.rate_fps is not None]
    assert RATES_FPS[0] <= min(rates) < max(rates) <= RATES_FPS[1]
    assert max(camera.coarseness for camera in cameras) <= MAX_COARSENESS
    assert 0.8 * MAX_GRAIN < max(camera.grain for camera in cameras) <= MAX_GRAIN
    qualities = [camera.quality for camera in cameras if camera.quality is not None]
    assert JPEG_QUALITIES[0] <= min(qualities) < max(qualities) <= JPEG_QUALITIES[1]
    faults = {(c.rate_fps is None, c.coarseness == 1, c.grain == 0, c.quality is None) for c in cameras}
    assert len(faults) == 16
