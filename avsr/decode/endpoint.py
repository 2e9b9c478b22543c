"""When a segment of speech has ended: after a long enough pause, or when the segment is too long.

Every tick of a pause earns credit, more where the room is silent and the lips are still, less where the lips move:

    lips move                       1    (someone who is about to speak on gets twice the time)
    nothing known, or sound alone   2
    sound silent and lips still     3    (both senses agree: two thirds of the time are enough)

The segment ends once the credit is twice the number of ticks in ``endpoint_silence_s``. In the last quarter of
``max_segment_s`` shorter and shorter pauses suffice, and at its end the segment is cut wherever it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avsr.config import DecodeConfig
from avsr.types import TICK_S

Ending = Literal["pause", "length"]

BLANK_PROBABILITY = 0.5
"""A tick belongs to a pause where the network's blank is likelier than this."""
SURE_BLANK_PROBABILITY = 0.9
"""A segment ends only at a tick where the blank is likelier than this: never while a word may be beginning."""
SILENCE_DB = -50.0
"""Sound under this level (dB of full scale, RMS of a tick) is silence."""
STILL_OPENING = 0.04
"""Lips whose opening (share of the mouth's width) varies less than this over `LIP_TICKS` are still."""
LIP_TICKS = 5
SHORTEST_PAUSE_TICKS = 6
"""The shortest pause that ends a segment, however long that is already."""
LONG_SHARE = 0.75
"""From this share of the longest segment on, shorter pauses are taken."""


@dataclass(frozen=True, slots=True)
class EndpointInput:
    """What is known about one tick.

    ``blank_probability`` in [0, 1]; ``last_token_tick`` where the best hypothesis said its last token, None before any;
    ``loudness_db`` RMS of the sound, dB of full scale, None where nothing was heard; ``mouth_opening`` as in
    `LipFrame`.
    """

    blank_probability: float
    last_token_tick: int | None
    loudness_db: float | None = None
    mouth_opening: float | None = None


@dataclass(frozen=True, slots=True)
class EndpointState:
    """A segment ``num_ticks`` old, ``pause_credit`` earned since ``last_token_tick``, the last mouth ``openings``."""

    num_ticks: int = 0
    pause_credit: int = 0
    last_token_tick: int | None = None
    openings: tuple[float, ...] = ()


class Endpointer:
    """Decides tick by tick; how ticks are grouped into chunks never matters."""

    def __init__(self, config: DecodeConfig) -> None:
        self._pause_ticks = max(1, round(config.endpoint_silence_s / TICK_S))
        self._max_ticks = max(1, round(config.max_segment_s / TICK_S))

    def init_state(self, num_ticks: int = 0) -> EndpointState:
        """Return the state of a segment that is ``num_ticks`` old already."""
        return EndpointState(num_ticks)

    def step(self, x: EndpointInput, state: EndpointState) -> tuple[Ending | None, EndpointState]:
        """Take one tick; return why the segment ends with it, or None. Begin the next segment with `init_state`."""
        openings = () if x.mouth_opening is None else (*state.openings, x.mouth_opening)[-LIP_TICKS:]
        credit = state.pause_credit if x.last_token_tick == state.last_token_tick else 0
        if x.blank_probability > BLANK_PROBABILITY:
            credit += _credit(x.loudness_db, openings)
        state = EndpointState(state.num_ticks + 1, credit, x.last_token_tick, openings)
        if x.blank_probability > SURE_BLANK_PROBABILITY and credit >= self._needed_credit(state.num_ticks):
            return "pause", state
        return ("length" if state.num_ticks >= self._max_ticks else None), state

    def _needed_credit(self, num_ticks: int) -> float:
        left = (1 - num_ticks / self._max_ticks) / (1 - LONG_SHARE)
        shortest = min(SHORTEST_PAUSE_TICKS, self._pause_ticks)
        return 2 * max(shortest, self._pause_ticks * min(1.0, left))


def _credit(loudness_db: float | None, openings: tuple[float, ...]) -> int:
    # Fewer pictures than LIP_TICKS tell of movement, not of stillness.
    moving = bool(openings) and max(openings) - min(openings) > STILL_OPENING
    still = len(openings) == LIP_TICKS and not moving
    silent = loudness_db is not None and loudness_db < SILENCE_DB
    if moving:
        return 1
    return 3 if silent and still else 2
