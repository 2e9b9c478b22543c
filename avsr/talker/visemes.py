"""Visemes: the mouth shapes of the phonemes of espeak-ng and flite.

Eighteen classes, including rest, that a lip reader could tell apart: consonants follow Fisher 1968, "Confusions among
visually perceived consonants"; vowels are grouped by jaw opening and rounding.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np

from avsr.types import FloatArray


@dataclass(frozen=True, slots=True)
class MouthShape:
    """Parameters of a mouth, all in 0..1 except ``width`` in -1..1 (pursed to spread).

    ``jaw``: how far the chin has dropped; ``gap``: opening between the lips; ``rounding``: lips pushed forward;
    ``tuck``: lower lip under the upper teeth; ``teeth``: how far they are visible; ``tongue``: its height; ``tip``: tip
    of the tongue between the teeth; ``press``: lips pressed thin.
    """

    jaw: float = 0.05
    gap: float = 0.0
    width: float = 0.0
    rounding: float = 0.0
    tuck: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.2
    tip: float = 0.0
    press: float = 0.0


SHAPE_FIELDS = tuple(field.name for field in fields(MouthShape))
"""Names of the parameters, in the order of ``as_row``."""


@dataclass(frozen=True, slots=True)
class Viseme:
    """A class of mouth shapes: its target, and how strongly it dominates its neighbours.

    ``dominance`` is alpha of Cohen & Massaro 1993, "Modeling coarticulation in synthetic visual speech".
    """

    name: str
    shape: MouthShape
    dominance: float


REST = Viseme("rest", MouthShape(), 0.5)
CLOSED = Viseme("closed", MouthShape(jaw=0.12, press=0.8), 2.0)
LABIODENTAL = Viseme("labiodental", MouthShape(jaw=0.15, gap=0.14, tuck=1.0, teeth=0.6), 1.6)
_VISEMES = (
    REST,
    CLOSED,
    LABIODENTAL,
    Viseme("dental", MouthShape(jaw=0.25, gap=0.3, width=0.1, teeth=0.3, tongue=0.7, tip=1.0), 1.8),
    Viseme("alveolar", MouthShape(jaw=0.15, gap=0.24, width=0.25, teeth=0.55, tongue=0.7), 0.8),
    Viseme("hiss", MouthShape(jaw=0.06, gap=0.24, width=0.4, teeth=0.9, tongue=0.4), 1.3),
    Viseme("lateral", MouthShape(jaw=0.3, gap=0.36, width=0.1, teeth=0.35, tongue=1.0), 1.1),
    Viseme("postalveolar", MouthShape(jaw=0.12, gap=0.36, width=-0.45, rounding=0.65, teeth=0.8, tongue=0.5), 1.6),
    Viseme("velar", MouthShape(jaw=0.25, gap=0.3, tongue=0.3), 0.4),
    Viseme("rhotic", MouthShape(jaw=0.2, gap=0.26, width=-0.4, rounding=0.55, tongue=0.5), 1.1),
    Viseme("w", MouthShape(jaw=0.12, gap=0.1, width=-0.95, rounding=1.0), 2.0),
    Viseme("open", MouthShape(jaw=0.95, gap=0.85, width=0.05, teeth=0.15, tongue=0.1), 1.2),
    Viseme("ae", MouthShape(jaw=0.75, gap=0.72, width=0.35, teeth=0.35, tongue=0.2), 1.2),
    Viseme("eh", MouthShape(jaw=0.5, gap=0.52, width=0.4, teeth=0.35, tongue=0.35), 1.1),
    Viseme("schwa", MouthShape(jaw=0.35, gap=0.36, tongue=0.3), 0.5),
    Viseme("spread", MouthShape(jaw=0.16, gap=0.34, width=0.85, teeth=0.6, tongue=0.65), 1.2),
    Viseme("oo", MouthShape(jaw=0.2, gap=0.2, width=-0.85, rounding=0.95, tongue=0.2), 1.6),
    Viseme("oh", MouthShape(jaw=0.6, gap=0.52, width=-0.55, rounding=0.75, tongue=0.1), 1.4),
)
VISEMES = {viseme.name: viseme for viseme in _VISEMES}
"""The classes by name."""

# espeak-ng's English phonemes; length marks, digits and other symbols are skipped by the look-up.
_ESPEAK = {
    "closed": "p b m",
    "labiodental": "f v",
    "dental": "T D",
    "alveolar": "t d n ?",
    "hiss": "s z",
    "lateral": "l L",
    "postalveolar": "S Z tS dZ",
    "velar": "k g N h x C H",
    "rhotic": "r R",
    "w": "w W",
    "open": "A V 0 Q",
    "ae": "a &",
    "eh": "E e",
    "schwa": "@ 3 I",
    "spread": "i j y",
    "oo": "u U",
    "oh": "O o",
}
# Flite's phonemes, which are those of CMUdict, in espeak-ng's notation.
_FLITE = {
    "aa": "A", "ae": "a", "ah": "V", "ao": "O", "aw": "aU", "ax": "@", "ay": "aI", "eh": "E", "er": "3", "ey": "eI",
    "ih": "I", "iy": "i", "ow": "oU", "oy": "OI", "uh": "U", "uw": "u", "ch": "tS", "dh": "D", "hh": "h", "jh": "dZ",
    "ng": "N", "sh": "S", "th": "T", "zh": "Z",
}  # fmt: skip
_CLASS_OF = {symbol: name for name, symbols in _ESPEAK.items() for symbol in symbols.split()}
_LONGEST_SYMBOL = 2
STOPS = frozenset(["p", "b", "t", "d", "k", "g", "tS", "dZ"])
"""Stops and affricates in espeak-ng's notation: they begin with a closure of the vocal tract."""


def is_pause(phoneme: str) -> bool:
    """Whether ``phoneme`` is silence."""
    return phoneme == "pau" or phoneme.startswith("_") or not phoneme


def visemes_of(phoneme: str) -> tuple[Viseme, ...]:
    """Return the visemes of ``phoneme`` in order: one, or two for a diphthong; an unknown phoneme is a schwa."""
    if is_pause(phoneme):
        return (REST,)
    rest = _FLITE.get(phoneme, phoneme)
    found: list[Viseme] = []
    while rest:
        for length in range(_LONGEST_SYMBOL, 0, -1):
            name = _CLASS_OF.get(rest[:length])
            if name is not None:
                found.append(VISEMES[name])
                break
        rest = rest[length:]
    if len(found) > 1:
        # A diphthong's two vowels are more extreme than either is alone: from a wide open "a", to a tense "I".
        found = [VISEMES["open"] if viseme.name == "ae" else viseme for viseme in found]
        if phoneme.rstrip("#2:-").endswith(("I", "ay", "ey", "oy")):
            found[-1] = VISEMES["spread"]
    return tuple(found) or (VISEMES["schwa"],)


def as_row(shape: MouthShape) -> FloatArray:
    """``shape`` as f32 (len(SHAPE_FIELDS),)."""
    return np.array(astuple(shape), np.float32)
