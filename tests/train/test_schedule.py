"""Learning rates over a stage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.train.recipe import StageConfig
from avsr.train.schedule import COSINE_FLOOR, learning_rate


def stage(schedule: str, warmup_epochs: float = 2.0) -> StageConfig:
    return StageConfig.model_validate(
        {"epochs": 10, "learning_rate": 0.5, "warmup_epochs": warmup_epochs, "schedule": schedule}
    )


@pytest.mark.parametrize("schedule", ["cosine", "noam", "constant"])
@settings(deadline=None, max_examples=40)
@given(warmup_epochs=st.floats(0, 9), epochs_done=st.floats(0.001, 10))
def test_rates_rise_to_the_peak_and_never_above(schedule: str, warmup_epochs: float, epochs_done: float) -> None:
    config = stage(schedule, warmup_epochs)
    rate = learning_rate(config, epochs_done)
    assert 0 < rate <= 0.5
    before = learning_rate(config, 0.9 * epochs_done)
    assert before <= rate if epochs_done <= warmup_epochs else rate <= 0.5
    if warmup_epochs:
        assert learning_rate(config, warmup_epochs) == pytest.approx(0.5)


def test_each_schedule_falls_as_it_says() -> None:
    assert learning_rate(stage("cosine"), 1.0) == pytest.approx(0.25)
    assert learning_rate(stage("cosine"), 6.0) == pytest.approx(0.5 * (1 + COSINE_FLOOR) / 2)
    assert learning_rate(stage("cosine"), 10.0) == pytest.approx(0.5 * COSINE_FLOOR)
    assert learning_rate(stage("noam"), 8.0) == pytest.approx(0.25)
    assert learning_rate(stage("noam", 0.0), 4.0) == pytest.approx(0.25)
    assert learning_rate(stage("constant"), 10.0) == 0.5
