"""Words and phrases that a stream favours: an Aho-Corasick automaton over the letters of the hypotheses.

The bonus of a text is a function of the text alone: the boosts of the hotwords that occur in it as whole words, plus a
share for a hotword that may have begun at its end, in proportion to the letters said. So the bonus grows while a
hotword is being said, and the share is taken back when the match breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real

import numpy as np
import numpy.typing as npt

from avsr.decode.tokenizer import WORD_MARK, Tokenizer, normalise_text
from avsr.errors import ConfigError, TextError

ROOT = 0


@dataclass(frozen=True, slots=True)
class Hotword:
    """A word or phrase to favour; ``boost`` is added to the log score of each text that says it.

    Raises:
        ConfigError: a phrase that is no text, or a boost that is not a number of at least 0.
    """

    phrase: str
    boost: float = 4.0

    def __post_init__(self) -> None:
        if not isinstance(self.phrase, str):
            raise ConfigError(f"hotword {self.phrase!r}: must be a text")
        if not (isinstance(self.boost, Real) and 0 <= self.boost < float("inf")):
            raise ConfigError(f"hotword {self.phrase!r}: boost {self.boost!r} must be a number of 0 or more")


class HotwordMatcher:
    """Follows hypotheses, token by token, through all hotwords at once. A place in the automaton is an integer node.

    Raises:
        TextError: a phrase is empty or cannot be spelled by the tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, hotwords: Sequence[Hotword]) -> None:
        self._pieces = tokenizer.pieces
        self._silent = (tokenizer.blank_id, tokenizer.unknown_id)
        self._next: list[dict[str, int]] = [{}]
        self._share: list[float] = [0.0]
        self._whole: list[float] = [0.0]
        for hotword in hotwords:
            if not tokenizer.encode(hotword.phrase):
                raise TextError(f"hotword {hotword.phrase!r} has no letters; leave it out")
            self._add("".join(WORD_MARK + word for word in normalise_text(hotword.phrase).split()), hotword.boost)
        self._fail = self._link()
        self.moves = lru_cache(maxsize=256)(self._moves)
        """`moves(node)` -> gains f64 (V,) and next nodes i64 (V,) for each token; kept, since most nodes come again."""

    def finish(self, node: int) -> float:
        """Return what the end of the text adds at ``node``: the boosts of hotwords that end here, less the share."""
        return self._whole[node] - self._share[node]

    def _add(self, letters: str, boost: float) -> None:
        node = ROOT
        for depth, letter in enumerate(letters, start=1):
            if letter not in self._next[node]:
                self._next[node][letter] = len(self._next)
                self._next.append({})
                self._share.append(0.0)
                self._whole.append(0.0)
            node = self._next[node][letter]
            self._share[node] = max(self._share[node], boost * depth / len(letters))
        self._whole[node] = max(self._whole[node], boost)

    def _link(self) -> list[int]:
        """Point each node to the longest other beginning of a hotword that its letters end with (breadth first)."""
        fail = [ROOT] * len(self._next)
        layer = list(self._next[ROOT].values())
        while layer:
            for node in layer:
                self._whole[node] += self._whole[fail[node]]
                for letter, child in self._next[node].items():
                    fail[child] = self._walk(fail[node], letter, fail)
            layer = [child for node in layer for child in self._next[node].values()]
        return fail

    def _walk(self, node: int, letter: str, fail: Sequence[int]) -> int:
        while node != ROOT and letter not in self._next[node]:
            node = fail[node]
        return self._next[node].get(letter, ROOT)

    def _moves(self, node: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        gains, nodes = np.zeros(len(self._pieces)), np.full(len(self._pieces), node)
        for token, piece in enumerate(self._pieces):
            if token not in self._silent:
                gains[token], nodes[token] = self._say(node, piece)
        return gains, nodes

    def _say(self, node: int, piece: str) -> tuple[float, int]:
        gain = 0.0
        for letter in piece:
            if letter == WORD_MARK:
                gain += self._whole[node]  # the word before ends here, and with it every hotword that ends in it
            after = self._walk(node, letter, self._fail)
            gain += self._share[after] - self._share[node]
            node = after
        return gain, node
