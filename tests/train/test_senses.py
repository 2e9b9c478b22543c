"""Lost senses: as often as asked, never both at once, and nothing of what is lost is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.train.augment.senses import LONGEST_ABSENCE_TICKS, drop_a_sense
from avsr.train.packs.reader import ClipData, spans_of
from avsr.types import LIP_SIZE, TICK_SAMPLES

NONE = {"drop_audio": 0.0, "drop_video": 0.0, "vanish_audio": 0.0, "vanish_video": 0.0}


def clip(num_ticks: int) -> ClipData:
    present = np.ones(num_ticks, np.bool_)
    lips = np.full((num_ticks, LIP_SIZE, LIP_SIZE), 9, np.uint8)
    return ClipData(np.full(num_ticks * TICK_SAMPLES, 0.1, np.float32), lips, present, present.copy())


@given(st.integers(0, 1 << 30), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_a_tick_that_had_a_sense_keeps_one(seed: int, present: list[tuple[bool, bool]]) -> None:
    heard, visible = (np.array(column, np.bool_) for column in zip(*present, strict=True))
    whole = replace(clip(len(present)), heard=heard, visible=visible)
    lost = drop_a_sense(
        whole, np.random.default_rng(seed), drop_audio=0.25, drop_video=0.25, vanish_audio=0.25, vanish_video=0.25
    )
    assert ((lost.heard | lost.visible) == (heard | visible)).all()
    assert (lost.heard <= heard).all()
    assert (lost.visible <= visible).all()
    if (lost.heard != heard).any():
        assert np.array_equal(lost.audio.reshape(-1, TICK_SAMPLES).any(1), lost.heard)
    if (lost.visible != visible).any():
        assert np.array_equal(lost.lips.any((1, 2)), lost.visible)


def test_each_loss_comes_as_often_as_asked() -> None:
    rng = np.random.default_rng(1)
    shares = {"drop_audio": 0.1, "drop_video": 0.2, "vanish_audio": 0.3, "vanish_video": 0.25}
    drawn = [drop_a_sense(clip(100), rng, **shares) for _ in range(600)]
    kinds = [(data.heard.mean(), data.visible.mean()) for data in drawn]
    assert np.mean([heard == 0 for heard, _ in kinds]) == pytest.approx(0.1, abs=0.04)
    assert np.mean([visible == 0 for _, visible in kinds]) == pytest.approx(0.2, abs=0.05)
    assert np.mean([0 < heard < 1 for heard, _ in kinds]) == pytest.approx(0.3, abs=0.06)
    assert np.mean([0 < visible < 1 for _, visible in kinds]) == pytest.approx(0.25, abs=0.06)
    assert np.mean([kind == (1, 1) for kind in kinds]) == pytest.approx(0.15, abs=0.05)


@pytest.mark.parametrize("sense", ["audio", "video"])
def test_a_sense_that_vanishes_is_gone_for_one_while(sense: str) -> None:
    lengths = []
    for seed in range(100):
        lost = drop_a_sense(clip(120), np.random.default_rng(seed), **(NONE | {f"vanish_{sense}": 1.0}))
        [(first, last)] = spans_of(~(lost.heard if sense == "audio" else lost.visible))
        assert (lost.visible if sense == "audio" else lost.heard).all()
        lengths.append(last - first)
    assert max(lengths) <= LONGEST_ABSENCE_TICKS
    assert len(set(lengths)) > 20


def test_nothing_is_lost_where_nothing_is_asked_for() -> None:
    whole = clip(7)
    assert drop_a_sense(whole, np.random.default_rng(1), **NONE) is whole
