"""Mouth motion: timed phonemes to one mouth shape per frame, with coarticulation."""

from __future__ import annotations

import numpy as np

from avsr.talker.visemes import (
    CLOSED,
    LABIODENTAL,
    REST,
    SHAPE_FIELDS,
    MouthShape,
    Viseme,
    as_row,
    is_pause,
    visemes_of,
)
from avsr.talker.voices import Phoneme, Speech
from avsr.types import FloatArray

_REACH_S = 0.4
"""A phoneme influences the mouth this long before and after itself; beyond, its dominance is negligible."""
_DECAY_PER_S = 28.0
"""Decay of dominance with the distance from a phoneme (theta of Cohen & Massaro 1993, with their c = 1)."""
_CLOSURE_HOLD_S = 0.05
_CLOSURE_EASE_S = 0.045
_GAP, _JAW, _TUCK, _TIP, _PRESS = (SHAPE_FIELDS.index(name) for name in ("gap", "jaw", "tuck", "tip", "press"))


def mouth_track(speech: Speech, fps: float = 25.0) -> tuple[MouthShape, ...]:
    """Return one shape per frame: that of the mouth in the middle of the frame.

    Targets are blended by dominance functions (Cohen & Massaro 1993): near a phoneme its target prevails, between two
    phonemes the more dominant one. Closures, which blending could lose, are then enforced: the lips meet for every p, b
    and m, for at least one frame.
    """
    num_frames = int(np.ceil(speech.duration_s * fps - 1e-6))
    times_s = (np.arange(num_frames) + 0.5) / fps
    total = np.full((num_frames, 1), 1e-3, np.float32)
    blended = total * as_row(REST.shape)
    targets = list(_targets(speech))
    for viseme, start_s, end_s in targets:
        near = slice(*np.searchsorted(times_s, (start_s - _REACH_S, end_s + _REACH_S)))
        away_s = np.maximum(np.maximum(start_s - times_s[near], times_s[near] - end_s), 0)[:, None]
        dominance = (viseme.dominance * np.exp(-_DECAY_PER_S * away_s)).astype(np.float32)
        total[near] += dominance
        blended[near] += dominance * as_row(viseme.shape)
    rows = blended / total

    for viseme, start_s, end_s in targets:
        if viseme is CLOSED or viseme is LABIODENTAL:
            hold_s = max(_CLOSURE_HOLD_S, 1.02 / fps)
            # Opened shortly before the phoneme ends, as a stop is by its burst.
            hold_end_s = max(start_s + hold_s, min(end_s - 0.02, start_s + 0.12))
            _hold(rows, times_s, viseme, start_s, hold_end_s)
    return tuple(MouthShape(*map(float, row)) for row in rows)


def _targets(speech: Speech) -> list[tuple[Viseme, float, float]]:
    """Mouth targets with the times at which they are held: the middle of each vowel, all of a pause or lip closure."""
    targets = []
    first, last = speech.phonemes[0], speech.phonemes[-1]
    silences = (Phoneme("_", -1.0, first.start_s - 0.16), Phoneme("_", last.end_s + 0.16, speech.duration_s + 1.0))
    for phoneme in (silences[0], *speech.phonemes, silences[1]):
        visemes = visemes_of(phoneme.name)
        length_s = phoneme.end_s - phoneme.start_s
        if is_pause(phoneme.name) or visemes[0] is CLOSED or visemes[0] is LABIODENTAL:
            targets.append((visemes[0], phoneme.start_s, max(phoneme.end_s, phoneme.start_s)))
            continue
        # The mouth moves slightly ahead of the sound, so targets are held from 20 to 70 % of it.
        bounds_s = phoneme.start_s + length_s * np.linspace(0.2, 0.7, 2 * len(visemes))
        targets += [(viseme, bounds_s[2 * i], bounds_s[2 * i + 1]) for i, viseme in enumerate(visemes)]
    return targets


def _hold(rows: FloatArray, times_s: FloatArray, viseme: Viseme, start_s: float, end_s: float) -> None:
    """Set ``rows`` to the closure of ``viseme`` from ``start_s`` to ``end_s``, eased in and out; in place."""
    away_s = np.maximum(np.maximum(start_s - times_s, times_s - end_s), 0)
    near = np.flatnonzero(away_s < _CLOSURE_EASE_S)
    ease = (away_s[near] / _CLOSURE_EASE_S)[:, None]
    weight = (1 - ease * ease * (3 - 2 * ease)).astype(np.float32)
    columns = np.array((_GAP, _TUCK, _TIP, _PRESS))
    block = np.ix_(near, columns)
    rows[block] = (1 - weight) * rows[block] + weight * as_row(viseme.shape)[columns]
    jaw = rows[near, _JAW]
    rows[near, _JAW] = np.minimum(jaw, 1 - weight[:, 0] * (1 - 0.3))
