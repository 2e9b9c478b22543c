"""Laws of levelling: usual sound is left as it is, and a quiet microphone's becomes like usual sound."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.config import FeatureConfig
from avsr.features import LogMel
from avsr.features.level import (
    FLOOR_RISE_DB,
    HOLD_TICKS,
    QUIET_DB,
    SPEECH_ABOVE_FLOOR_DB,
    SPEECH_FALL_DB,
    USUAL_DB,
    LevelState,
)
from avsr.types import MUTED_DB, NUM_MELS, TICK_SAMPLES

PLAIN = FeatureConfig(mel_mean=(0.0,) * NUM_MELS, mel_std=(1.0,) * NUM_MELS)
SYLLABLES_DB = [-40, -40, -28, USUAL_DB, USUAL_DB, -20, -35, -40] * 4
"""Levels of ticks of usual speech: it rises over a quiet room to the loudness that models know."""


def follow(levels_db: list[float], state: LevelState | None = None) -> LevelState:
    state = state or LevelState()
    for level_db in levels_db:
        state = state.heard(level_db)
    return state


def speech(gain_db: float = 0.0) -> torch.Tensor:
    noise = torch.randn(len(SYLLABLES_DB), TICK_SAMPLES, generator=torch.Generator().manual_seed(5))
    noise /= noise.square().mean(1, keepdim=True).sqrt()
    return (noise * 10 ** ((torch.tensor(SYLLABLES_DB)[:, None] + gain_db) / 20)).flatten()


@given(st.lists(st.floats(-120, 0), max_size=60), st.floats(QUIET_DB, 0))
def test_speech_as_loud_as_usual_is_never_amplified(levels_db: list[float], loud_db: float) -> None:
    state = follow([-110.0, loud_db])
    for level_db in levels_db:
        state = state.heard(max(level_db, loud_db))
        assert state.gain_db == 0


def test_the_quiet_beginning_of_a_loud_word_is_not_amplified() -> None:
    state = LevelState()
    for level_db in (-70, -70, -55, -42, -46, -30, USUAL_DB, -20, -40):
        state = state.heard(level_db)
        assert state.gain_db == 0


@given(st.floats(-80, -60), st.floats(-60, -20), st.lists(st.floats(-1.5, 1.5), min_size=200, max_size=200))
def test_a_noise_that_begins_is_not_amplified(room_db: float, noise_db: float, wobble_db: list[float]) -> None:
    state = follow([room_db] * 25)
    for wobble in wobble_db:
        state = state.heard(noise_db + wobble)
        assert state.gain_db == 0


@given(st.lists(st.floats(-79, -50), min_size=1, max_size=3))
def test_a_noise_that_fades_in_or_has_a_hole_is_not_amplified(partly_db: list[float]) -> None:
    state = follow([*sorted(partly_db), *[-50.0] * 100, partly_db[0]])
    for _ in range(100):
        state = state.heard(-50.0)
        assert state.gain_db == 0


@given(st.lists(st.floats(-60, -36), min_size=1, max_size=3))
def test_after_a_click_the_room_is_not_amplified_for_long(click_db: list[float]) -> None:
    state = follow([*[-62.0] * 25, *click_db, *[-62.0] * (HOLD_TICKS + 1)])
    assert state.gain_db == 0


@given(st.floats(-120, -20), st.lists(st.floats(0, SPEECH_ABOVE_FLOOR_DB), max_size=60))
def test_a_steady_noise_is_never_amplified(floor_db: float, above_db: list[float]) -> None:
    assert follow([floor_db, *(floor_db + above for above in above_db)]).gain_db == 0


@given(st.floats(-40, QUIET_DB - USUAL_DB - 1))
def test_quiet_speech_is_brought_to_the_usual_loudness(gain_db: float) -> None:
    quiet = follow([level_db + gain_db for level_db in SYLLABLES_DB])
    assert abs(quiet.gain_db + gain_db) < 8 * SPEECH_FALL_DB


def test_no_speech_is_made_louder_by_more_than_40_db() -> None:
    assert follow([level_db - 45 for level_db in SYLLABLES_DB]).gain_db == 40


def test_the_features_of_quiet_speech_become_those_of_usual_speech() -> None:
    log_mel = LogMel(PLAIN)
    usual, quiet = (log_mel.step(speech(gain_db), log_mel.init_state())[0] for gain_db in (0, -38))
    apart = (usual - quiet).abs().mean(1).reshape(-1, 4).mean(1)
    assert apart[:4].max() > 3  # the first word begins too quiet
    assert apart[16:].max() < 0.1


def test_the_features_of_usual_speech_are_those_of_its_samples() -> None:
    state = LogMel(PLAIN).init_state()
    samples = speech()
    mel, state = LogMel(PLAIN).step(samples, state)
    assert state.level.gain_db == 0
    assert torch.equal(state.context, samples[-len(state.context) :])
    torch.testing.assert_close(mel, LogMel(PLAIN).parallel(samples), atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, len(SYLLABLES_DB)), st.floats(-45, 0))
def test_the_cut_of_quiet_sound_never_changes_features(cut: int, gain_db: float) -> None:
    log_mel, samples = LogMel(PLAIN), speech(gain_db)
    whole, _ = log_mel.step(samples, log_mel.init_state())
    first, state = log_mel.step(samples[: cut * TICK_SAMPLES], log_mel.init_state())
    second, _ = log_mel.step(samples[cut * TICK_SAMPLES :], state)
    assert torch.equal(torch.cat([first, second]), whole)
    torch.testing.assert_close(log_mel.parallel(samples), whole, atol=1e-5, rtol=1e-5)


def test_a_slammed_door_is_forgotten() -> None:
    quiet_db = [level_db - 40 for level_db in SYLLABLES_DB]
    slammed = follow([*quiet_db, 0.0, *quiet_db])
    assert slammed.gain_db == 0
    num_speech_ticks = round((40 - USUAL_DB) / SPEECH_FALL_DB)
    assert abs(follow(quiet_db * (num_speech_ticks // 16 + 1), slammed).gain_db - 40) < 1


def test_a_quieter_pause_lowers_the_floor_for_a_while_only() -> None:
    state = follow([-70.0, -50.0])
    assert state.floor_db == -70 + FLOOR_RISE_DB
    assert follow([-50.0] * 200, state).floor_db == -50


def test_a_muted_microphone_tells_of_no_floor_and_is_not_amplified_for_long() -> None:
    state = follow([level_db - 39 for level_db in SYLLABLES_DB])
    muted = follow([MUTED_DB - 1] * (HOLD_TICKS + 1), state)
    assert (muted.floor_db, muted.speech_db, muted.is_quiet) == (state.floor_db, state.speech_db, True)
    assert muted.gain_db == 0
    assert muted.heard(USUAL_DB - 39).gain_db > 38
