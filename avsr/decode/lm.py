"""Word n-gram language models, scored word by word with backoff (Katz 1987)."""

from __future__ import annotations

import hashlib
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from avsr.errors import ConfigError

LmContext = tuple[int, ...]
"""The last words as ids, at most order - 1 of them: the whole state of a language model."""

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
UNKNOWN_LOG10 = -7.0
"""log10 probability of one particular word of up to 7 letters that is not listed; each further letter takes 1 more."""
START_LOG10 = -99.0
"""What ARPA files say of ``<s>``, which is never predicted."""
LOG_10 = math.log(10.0)


class WordLm:
    """A language model as the beam search uses it.

    A word's score is ``weight`` times its natural log probability after the words before it, plus ``word_bonus``.
    ``<unk>`` is the probability of all unknown words together; a particular one gets at most `UNKNOWN_LOG10`, so that a
    random string of letters never beats a rare word. As soon as no listed word begins with the letters so far, an
    unfinished word counts as unknown; otherwise words that run together would be cheaper than words told apart.

    Raises:
        ConfigError: ``ngrams`` are none, a weight or bonus is not a finite number, or a weight is under 0.
    """

    def __init__(self, ngrams: NgramTable, weight: float = 0.5, word_bonus: float = 0.0) -> None:
        if not isinstance(ngrams, NgramTable):
            raise ConfigError(
                f"a language model needs n-grams, not {type(ngrams).__name__}; read a file with avsr.read_arpa"
            )
        if not (math.isfinite(weight) and weight >= 0 and math.isfinite(word_bonus)):
            raise ConfigError(f"language model weight {weight} (0 or more) and word bonus {word_bonus} must be finite")
        self._ngrams = ngrams
        self.weight, self.word_bonus = weight, word_bonus
        # Neighbouring hypotheses ask for the same words again and again.
        self.score = lru_cache(maxsize=65_536)(self._score)
        """`score(word, context)` -> what the word adds, and the context after it."""
        self.begun = lru_cache(maxsize=65_536)(self._begun)
        """`begun(letters)` -> what a word adds that begins so (with "" for none), as long as it is not complete."""

    def weighted(self, weight: float | None = None, word_bonus: float | None = None) -> WordLm:
        """Return the same model with another weight or bonus; None keeps what is.

        Raises:
            ConfigError: as for the class.
        """
        return WordLm(
            self._ngrams,
            self.weight if weight is None else weight,
            self.word_bonus if word_bonus is None else word_bonus,
        )

    @property
    def sha256(self) -> str:
        """First 16 hex digits of a hash of its n-grams, whatever its weight and bonus."""
        return self._ngrams.sha256

    def start(self) -> LmContext:
        """Return the context at the beginning of a sentence."""
        return self._ngrams.start()

    def end(self, context: LmContext) -> float:
        """Return what the end of the sentence adds after ``context``."""
        return self.weight * self._ngrams.log_prob(END, context)[0]

    def _score(self, word: str, context: LmContext) -> tuple[float, LmContext]:
        log_prob, after = self._ngrams.log_prob(word, context)
        if word not in self._ngrams:
            log_prob = min(log_prob, _unknown(word))
        return self.weight * log_prob + self.word_bonus, after

    def _begun(self, letters: str) -> float:
        return 0.0 if self._ngrams.lists_beginning(letters) else self.weight * _unknown(letters)


def _unknown(word: str) -> float:
    return min(UNKNOWN_LOG10, -len(word)) * LOG_10


class NgramTable:
    """Probabilities of n-grams of any order, with backoff: what an ARPA file holds.

    ``words`` gives each word its id, counted from 0 in the order of the dict.
    """

    def __init__(self, words: dict[str, int], orders: Sequence[NgramOrder]) -> None:
        self._words, self._orders = words, tuple(orders)

    def __contains__(self, word: str) -> bool:
        """Say whether this word itself is listed."""
        return word in self._words

    def lists_beginning(self, letters: str) -> bool:
        """Say whether a word that begins with ``letters`` is listed."""
        place = bisect_left(self._sorted_words, letters)
        return place < len(self._sorted_words) and self._sorted_words[place].startswith(letters)

    @cached_property
    def _sorted_words(self) -> list[str]:
        return sorted(self._words)

    @property
    def order(self) -> int:
        """Words in the longest n-grams."""
        return len(self._orders)

    @property
    def num_ngrams(self) -> tuple[int, ...]:
        """How many n-grams are listed, of each order from 1 on."""
        return tuple(len(order.keys) for order in self._orders)

    @cached_property
    def sha256(self) -> str:
        """First 16 hex digits of a hash of everything that it lists."""
        content = hashlib.sha256("\0".join(self._words).encode())
        for order in self._orders:
            for column in order:
                content.update(column)
        return content.hexdigest()[:16]

    def start(self) -> LmContext:
        """Return the context at the beginning of a sentence."""
        return self._shortened((self._words[START],)) if START in self._words else ()

    def log_prob(self, word: str, context: LmContext) -> tuple[float, LmContext]:
        """Return the natural log probability of ``word`` after ``context``, and the context that follows."""
        word_id = self._words.get(word, self._words.get(UNKNOWN))
        if word_id is None:
            backoffs = sum(self._backoff(context[i:]) for i in range(len(context)))
            return (UNKNOWN_LOG10 + backoffs) * LOG_10, ()
        log10_prob, history = 0.0, context
        while (place := self.find((*history, word_id))) is None:
            log10_prob += self._backoff(history)
            history = history[1:]
        log10_prob += self._orders[len(history)].log10_probs[place]
        return log10_prob * LOG_10, self._shortened((*context, word_id))

    def ngrams(self, order: int) -> Iterator[tuple[str, float, float]]:
        """Yield the n-grams of ``order``, its words joined by spaces, with log10 probability and log10 backoff."""
        for name, place in zip(self._names(order), range(self.num_ngrams[order - 1]), strict=True):
            listed = self._orders[order - 1]
            yield name, listed.log10_probs[place], listed.log10_backoffs[place]

    def _names(self, order: int) -> list[str]:
        if order == 1:
            return list(self._words)
        words, shorter = list(self._words), self._names(order - 1)
        return [f"{shorter[key // len(words)]} {words[key % len(words)]}" for key in self._orders[order - 1].keys]

    def find(self, words: LmContext) -> int | None:
        """Return the place of this n-gram among those of its order; None where it is not listed."""
        place: int | None = words[0]
        for order, word_id in zip(self._orders[1:], words[1:], strict=False):
            if place is None:
                return None
            place = order.find(place * len(self._words) + word_id)
        return place

    def _backoff(self, words: LmContext) -> float:
        place = self.find(words)
        return 0.0 if place is None else self._orders[len(words) - 1].log10_backoffs[place]

    def _shortened(self, words: LmContext) -> LmContext:
        return words[max(0, len(words) - self.order + 1) :]


class NgramOrder(NamedTuple):
    """The n-grams of one order, by rising key: (place of the first n - 1 words in the order below) * words + last.

    Of single words the key is the id.
    """

    keys: array[int]
    log10_probs: array[float]
    log10_backoffs: array[float]

    @classmethod
    def packed(
        cls,
        keys: npt.NDArray[np.int64],
        log10_probs: npt.NDArray[np.float64],
        log10_backoffs: npt.NDArray[np.float64],
    ) -> NgramOrder:
        """Return the n-grams of these arrays, all (n,), keys rising."""
        return cls(
            array("q", keys.astype(np.int64).tobytes()),
            array("f", log10_probs.astype(np.float32).tobytes()),
            array("f", log10_backoffs.astype(np.float32).tobytes()),
        )

    def find(self, key: int) -> int | None:
        """Return the place of ``key``; None where there is none."""
        place = bisect_left(self.keys, key)
        return place if place < len(self.keys) and self.keys[place] == key else None
