"""Names that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

from avsr.types import FloatArray

GRID_WORDS = [
    *"abcdefghijklmnopqrstuvxyz",
    *("bin", "lay", "place", "set", "blue", "green", "red", "white", "at", "by", "in", "with"),
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "again", "now", "please", "soon"),
]

Say = Callable[..., FloatArray]
"""Makes log-probabilities f32 (ticks, V); see the fixtures `noise` and `say`."""
