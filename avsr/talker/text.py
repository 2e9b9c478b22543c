"""The text of a talker: words, pauses, and how single letters are spelt for a synthesiser."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from avsr.errors import TextError

COMMANDS = ("bin", "lay", "place", "set")
COLOURS = ("blue", "green", "red", "white")
PREPOSITIONS = ("at", "by", "in", "with")
LETTERS = tuple("abcdefghijklmnopqrstuvxyz")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ADVERBS = ("again", "now", "please", "soon")

MAX_CHARS = 2_000
"""Longest text spoken at once; about two minutes."""

_TOKEN = re.compile(r"(?P<word>'?[a-z][a-z']*)|(?P<pause>[,.;:!?]+)|(?P<space>[\s-]+)|(?P<other>\d+|.)", re.DOTALL)
_LETTER_NAMES = {"a": "eigh", "z": "zed"}
"""Spellings that make all voices say the letter's name: not the article "a", and not "zee", which GRID never has."""


@dataclass(frozen=True, slots=True)
class Script:
    """A text to speak: ``words`` as a transcript shows them, ``spoken`` as the synthesiser reads them.

    ``spoken`` has one entry per word, with the punctuation that follows it, so its i-th token is the i-th word.
    """

    words: tuple[str, ...]
    spoken: tuple[str, ...]

    @property
    def text(self) -> str:
        """The transcript: lower-case words joined by single spaces."""
        return " ".join(self.words)


def parse_script(text: str) -> Script:
    """Parse ``text``: English letters, apostrophes, hyphens, and ``, . ; : ! ?`` for pauses; case does not matter.

    "a" is the letter before a digit word ("by a nine"), another single letter, a pause or the end, else the article.
    "z" is read as "zed".

    Raises:
        TextError: no words, too long, or an unsupported character.
    """
    if len(text) > MAX_CHARS:
        raise TextError(f"text of {len(text)} characters; at most {MAX_CHARS} are spoken at once, so split it")
    words: list[str] = []
    pauses: list[str] = []
    for match in _TOKEN.finditer(text.lower().replace("’", "'")):
        token = match[0]
        if match.lastgroup == "word":
            words.append(token)
            pauses.append("")
        elif match.lastgroup == "pause" and pauses:
            # A run of marks is one pause; marks before the first word are ignored.
            pauses[-1] = pauses[-1] or token[0]
        elif match.lastgroup == "other":
            hint = "; write numbers as words" if token.isdigit() else ""
            raise TextError(f"cannot speak {token!r} in {text!r}: use English letters and , . ; : ! ?{hint}")
    if not words:
        raise TextError(f"no words to speak in {text!r}")
    spoken = tuple(
        (word if word == "a" and not _is_a_letter_there(words, pauses, index) else _LETTER_NAMES.get(word, word))
        + pauses[index]
        for index, word in enumerate(words)
    )
    return Script(tuple(words), spoken)


def grid_sentence(rng: np.random.Generator) -> str:
    """Return a random sentence of the GRID grammar (Cooke, Barker, Cunningham, Shao 2006)."""
    slots = (COMMANDS, COLOURS, PREPOSITIONS, LETTERS, DIGITS, ADVERBS)
    return " ".join(slot[int(rng.integers(len(slot)))] for slot in slots)


def _is_a_letter_there(words: list[str], pauses: list[str], index: int) -> bool:
    """Tell whether the "a" at ``index`` is the letter rather than the article."""
    if pauses[index] or index + 1 == len(words):
        return True
    return words[index + 1] in DIGITS or len(words[index + 1]) == 1
