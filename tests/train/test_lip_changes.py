"""Augmentations of pictures: each does one thing, to any number of pictures, and never changes its input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avsr.train.augment.camera import Camera, film
from avsr.train.augment.lips import (
    LONGEST_COVER_TICKS,
    LONGEST_FREEZE_TICKS,
    bend,
    blur,
    cover,
    drop_pictures,
    freeze,
    late,
    random_bend,
    random_light,
    random_shade,
    random_turn,
    shade,
    turn_and_light,
)
from avsr.types import LIP_SIZE, ByteArray

Change = Callable[[ByteArray, np.random.Generator], ByteArray]
STILL = {"shift_px": 0.0, "zoom": 0.0, "roll_deg": 0.0, "mirror_share": 0.0}
CHANGES: dict[str, Change] = {
    "turn": lambda lips, rng: turn_and_light(lips, random_turn(LIP_SIZE, rng, **STILL), random_light(rng, 0.3)),
    "bend": lambda lips, rng: bend(lips, random_bend(LIP_SIZE, rng, 4.0)),
    "shade": lambda lips, rng: shade(lips, random_shade(LIP_SIZE, rng, 0.5)),
    "blur": lambda lips, rng: blur(lips, 2.0),
    "slow camera": lambda lips, rng: film(lips, Camera(rate_fps=10.0, phase=0.3), rng),
    "poor camera": lambda lips, rng: film(lips, Camera(12.0, 0.5, coarseness=2.0, grain=20.0, quality=20), rng),
    "freeze": freeze,
    "cover": cover,
    "drop": lambda lips, rng: drop_pictures(lips, 0.3, rng),
}


def pictures(num_ticks: int) -> ByteArray:
    """Noise, each picture another."""
    return np.random.default_rng(1).integers(0, 256, (num_ticks, LIP_SIZE, LIP_SIZE)).astype(np.uint8)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("num_ticks", [1, 2, 40])
def test_any_number_of_pictures_is_changed_repeatably_and_the_input_is_not(name: str, num_ticks: int) -> None:
    lips = pictures(num_ticks)
    changed, again = (CHANGES[name](lips, np.random.default_rng(5)) for _ in range(2))
    assert changed.shape == lips.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(changed, again)
    assert np.array_equal(lips, pictures(num_ticks))
    changed[:] = 0
    assert np.array_equal(lips, pictures(num_ticks))


def shown_ticks(changed: ByteArray, lips: ByteArray) -> list[int | None]:
    """Which picture is shown at each tick; None: none of them."""
    found = [np.flatnonzero((lips == picture).all((1, 2))) for picture in changed]
    return [int(ticks[0]) if len(ticks) else None for ticks in found]


def test_a_freeze_holds_one_picture_for_a_while() -> None:
    lips = pictures(40)
    lengths = set()
    for seed in range(30):
        shown = shown_ticks(freeze(lips, np.random.default_rng(seed)), lips)
        moved = [tick for tick, source in enumerate(shown) if source != tick]
        assert moved == list(range(moved[0], moved[0] + len(moved))) if moved else shown[0] == 0
        assert all(shown[tick] == moved[0] - 1 for tick in moved)
        lengths.add(len(moved))
    assert max(lengths) == LONGEST_FREEZE_TICKS


def test_a_cover_is_even_and_ends() -> None:
    lips = pictures(40)
    lengths = set()
    for seed in range(40):
        changed = cover(lips, np.random.default_rng(seed))
        hidden = [tick for tick, source in enumerate(shown_ticks(changed, lips)) if source is None]
        assert hidden == list(range(hidden[0], hidden[0] + len(hidden)))
        assert len(np.unique(changed[hidden])) == 1
        lengths.add(len(hidden))
    assert 1 <= min(lengths) < max(lengths) <= LONGEST_COVER_TICKS


def test_lost_pictures_leave_the_ones_before() -> None:
    lips = pictures(200)
    shown = shown_ticks(drop_pictures(lips, 0.25, np.random.default_rng(1)), lips)
    lost = [tick for tick, source in enumerate(shown) if source != tick]
    assert all(shown[tick] == shown[tick - 1] for tick in lost)
    assert len(lost) == pytest.approx(50, abs=15)
    assert np.array_equal(drop_pictures(lips, 0.0, np.random.default_rng(1)), lips)


def test_late_pictures_are_those_of_before() -> None:
    assert late(6, 2).tolist() == [0, 0, 0, 1, 2, 3]
    assert late(6, -2).tolist() == [2, 3, 4, 5, 5, 5]
    assert late(6, 0).tolist() == [0, 1, 2, 3, 4, 5]
    assert late(1, 2).tolist() == [0]


def test_blur_takes_detail_and_keeps_brightness() -> None:
    lips = pictures(3)
    blurred = blur(lips, 2.0)
    assert blurred.astype(float).std() < 0.3 * lips.astype(float).std()
    assert blurred.mean() == pytest.approx(lips.mean(), abs=2)
    assert np.array_equal(blur(lips, 0.0), lips)


def test_light_is_monotone_and_bounded() -> None:
    for seed in range(20):
        levels = random_light(np.random.default_rng(seed), 0.4).astype(int)
        assert (np.diff(levels) >= 0).all()
        assert abs(int(levels[128]) - 128) <= 0.4 * 128 + 0.2 * 255 + 1
    assert np.array_equal(random_light(np.random.default_rng(1), 0.0), np.arange(256))


def test_the_place_moves_no_further_than_asked() -> None:
    for seed in range(20):
        turn = random_turn(
            LIP_SIZE, np.random.default_rng(seed), shift_px=4.0, zoom=0.1, roll_deg=5.0, mirror_share=0.0
        )
        middle = turn @ [LIP_SIZE / 2, LIP_SIZE / 2, 1]
        assert np.abs(middle - LIP_SIZE / 2).max() <= 4.0 + 1e-9
        assert 0.9 <= np.sqrt(np.linalg.det(turn[:, :2])) <= 1.1
        assert abs(np.degrees(np.arctan2(turn[0, 1], turn[0, 0]))) <= 5.0 + 1e-9


def test_a_bend_folds_nothing_and_goes_about_as_far_as_asked() -> None:
    furthest_px = []
    for seed in range(40):
        moves = random_bend(LIP_SIZE, np.random.default_rng(seed), 8.0)
        assert moves.shape == (LIP_SIZE, LIP_SIZE, 2)
        assert np.diff(moves[..., 0], axis=1).min() > -1 and np.diff(moves[..., 1], axis=0).min() > -1
        furthest_px.append(np.abs(moves).max())
    assert 6 < max(furthest_px) < 1.3 * 8.0, "between control points a cubic may swing a little further"
    assert min(furthest_px) < 1
    assert not random_bend(LIP_SIZE, np.random.default_rng(1), 0.0).any()


def test_a_bend_shows_what_was_elsewhere() -> None:
    lips = pictures(2)
    right = np.zeros((LIP_SIZE, LIP_SIZE, 2), np.float32)
    right[..., 0] = -3.0
    assert np.array_equal(bend(lips, right)[:, :, 3:], lips[:, :, :-3])
    assert np.array_equal(bend(lips, np.zeros_like(right)), lips)


def test_shade_falls_from_one_side_and_leaves_the_middle() -> None:
    strongest = 0.0
    for seed in range(20):
        gains = random_shade(LIP_SIZE, np.random.default_rng(seed), 0.5)
        strongest = max(strongest, float(np.abs(gains - 1).max()))
        assert gains[47:49, 47:49].mean() == pytest.approx(1.0, abs=1e-6)
        edges = np.concatenate([gains[0], gains[-1], gains[:, 0], gains[:, -1]])
        assert np.abs(edges - 1).max() <= 0.5 * np.sqrt(2) + 1e-6
        assert np.allclose(gains + gains[::-1, ::-1], 2.0, atol=1e-6)
        assert all(len(np.unique(np.sign(np.diff(gains, axis=axis)))) == 1 for axis in (0, 1)), "it falls all the way"
    assert strongest > 0.4
    lips = pictures(2)
    assert np.array_equal(shade(lips, random_shade(LIP_SIZE, np.random.default_rng(1), 0.0)), lips)
    bright = shade(lips, np.full((LIP_SIZE, LIP_SIZE), 9.0, np.float32))
    assert np.array_equal(bright, np.minimum(lips.astype(int) * 9, 255)), "what is too bright is white"
