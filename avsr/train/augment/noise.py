"""Noise for training: babble, a single other talker, recordings, and coloured noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field

from avsr.config import Section
from avsr.errors import InputError
from avsr.media.noise import babble, coloured_noise, looped, loud_start
from avsr.types import FloatArray

MAX_SLOPE = 1.2
"""Power falls with frequency at most like f^-1.2: a little more than pink."""


class NoiseWeights(Section):
    """Relative frequencies of the kinds of noise; a kind without recordings is left out.

    ``babble`` is 4 to 8 voices at once, ``talker`` a single one, ``recorded`` a recording, ``coloured`` anything from
    white to pink.
    """

    babble: float = Field(1.0, ge=0)
    talker: float = Field(0.0, ge=0)
    recorded: float = Field(1.0, ge=0)
    coloured: float = Field(0.0, ge=0)

    @property
    def needs_recordings(self) -> bool:
        """Whether any kind is made of voices or noises that were recorded."""
        return self.babble + self.talker + self.recorded > 0


class NoiseSource:
    """Draws noise made of ``voices`` and ``noises``, each f32 (n,)."""

    def __init__(self, voices: Sequence[FloatArray], noises: Sequence[FloatArray]) -> None:
        self._voices, self._noises = voices, noises

    def draw(self, num_samples: int, rng: np.random.Generator, weights: NoiseWeights) -> FloatArray:
        """Return f32 (num_samples,) of a kind that is drawn by ``weights``.

        Raises:
            InputError: there is nothing to draw from.
        """
        voices, noises = self._voices, self._noises
        kinds: list[tuple[float, Callable[[], FloatArray]]] = [
            (weights.babble * bool(voices), lambda: babble(voices, num_samples, rng)),
            (weights.talker * bool(voices), lambda: _excerpt(voices, num_samples, rng)),
            (weights.recorded * bool(noises), lambda: _excerpt(noises, num_samples, rng)),
            (weights.coloured, lambda: coloured_noise(num_samples, rng.uniform(0, MAX_SLOPE), rng)),
        ]
        total = sum(weight for weight, _ in kinds)
        if not total:
            raise InputError("noise was asked for, but there are neither voices nor noises to draw from")
        return kinds[int(rng.choice(len(kinds), p=[weight / total for weight, _ in kinds]))][1]()


def _excerpt(recordings: Sequence[FloatArray], num_samples: int, rng: np.random.Generator) -> FloatArray:
    """Return a piece of a random recording that is not a pause, looped if the recording is too short."""
    recording = recordings[int(rng.integers(len(recordings)))]
    return looped(recording, loud_start(recording, num_samples, rng), num_samples)
