from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from avsr.config import DecodeConfig
from avsr.decode.endpoint import Endpointer, EndpointInput, EndpointState

CONFIG = DecodeConfig(endpoint_silence_s=0.8, max_segment_s=20.0)
PAUSE = EndpointInput(blank_probability=0.99, last_token_tick=3)
SPEECH = EndpointInput(blank_probability=0.1, last_token_tick=3)


def test_a_long_pause_ends_a_segment() -> None:
    assert _ending([SPEECH, *[PAUSE] * 30]) == (20 + 1, "pause")


def test_silence_and_still_lips_end_it_sooner() -> None:
    still = replace(PAUSE, loudness_db=-70.0, mouth_opening=0.1)
    num_ticks, ending = _ending([SPEECH, *[still] * 30])
    assert ending == "pause"
    assert 14 <= num_ticks <= 17
    for unlike in ({"loudness_db": -40.0}, {"mouth_opening": None}):  # a quiet voice; a face out of sight
        assert _ending([SPEECH, *[replace(still, **unlike)] * 30]) == (20 + 1, "pause")


def test_moving_lips_put_it_off_but_not_for_ever() -> None:
    moving = [replace(PAUSE, loudness_db=-70.0, mouth_opening=0.3 * (tick % 2)) for tick in range(90)]
    num_ticks, ending = _ending([SPEECH, *moving])
    assert ending == "pause"
    assert 38 <= num_ticks <= 42


def test_one_sense_alone_changes_nothing() -> None:
    for alone in (replace(PAUSE, loudness_db=-70.0), replace(PAUSE, mouth_opening=0.1)):
        assert _ending([SPEECH, *[alone] * 30]) == _ending([SPEECH, *[PAUSE] * 30])


def test_a_new_token_begins_the_pause_anew() -> None:
    later = replace(PAUSE, last_token_tick=15)
    assert _ending([*[PAUSE] * 15, *[later] * 30]) == (15 + 20, "pause")


def test_no_segment_ends_while_a_word_may_be_beginning() -> None:
    unsure = replace(PAUSE, blank_probability=0.6)
    assert _ending([*[PAUSE] * 10, *[unsure] * 30, PAUSE]) == (41, "pause")


def test_long_segments_take_shorter_pauses_and_end_at_last() -> None:
    talk = [replace(SPEECH, last_token_tick=tick) for tick in range(600)]
    assert _ending(talk) == (500, "length")
    pause = [replace(PAUSE, last_token_tick=449)] * 12
    assert _ending([*talk[:450], *pause]) == (450 + 7, "pause")
    assert _ending([*talk[:490], *[replace(PAUSE, last_token_tick=489)] * 12]) == (490 + 6, "pause")
    assert _ending([*talk[:100], *[replace(PAUSE, last_token_tick=99)] * 12]) is None


def test_the_state_never_grows() -> None:
    endpointer, state = Endpointer(CONFIG), EndpointState()
    for tick in range(400):
        _, state = endpointer.step(replace(SPEECH, mouth_opening=float(tick)), state)
    assert len(state.openings) <= 5


@pytest.mark.parametrize("max_segment_s", [0.01, 0.04, 1.0])
def test_tiny_limits_still_end(max_segment_s: float) -> None:
    ticks = [SPEECH] * 30
    ending = _ending(ticks, DecodeConfig(max_segment_s=max_segment_s))
    assert ending == (max(1, round(max_segment_s / 0.04)), "length")


def _ending(ticks: Sequence[EndpointInput], config: DecodeConfig = CONFIG) -> tuple[int, str] | None:
    """The number of ticks in the first segment and why it ended."""
    endpointer = Endpointer(config)
    state = endpointer.init_state()
    for num_ticks, x in enumerate(ticks, start=1):
        ending, state = endpointer.step(x, state)
        if ending:
            return num_ticks, ending
    return None
