"""Word n-gram language models in the ARPA format, scored word by word with backoff (Katz 1987)."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avsr.errors import ConfigError, InputError

LmContext = tuple[int, ...]
"""The last words as ids, at most order - 1 of them: the whole state of a language model."""

MAX_NGRAMS = 50_000_000
"""Refuse larger files: 16 bytes an n-gram in memory."""
MAX_LINE_BYTES = 65_536
UNKNOWN_LOG10 = -7.0
"""log10 probability of a word that the model does not list, where it lists no ``<unk>`` either."""
LOG_10 = math.log(10.0)


class WordLm:
    """A language model as the beam search uses it.

    A word's score is ``weight`` times its natural log probability after the words before it, plus ``word_bonus``.

    Raises:
        ConfigError: a weight or bonus that is not a finite number, or a weight under 0.
    """

    def __init__(self, ngrams: NgramTable, weight: float = 0.5, word_bonus: float = 0.0) -> None:
        if not (math.isfinite(weight) and weight >= 0 and math.isfinite(word_bonus)):
            raise ConfigError(f"language model weight {weight} (0 or more) and word bonus {word_bonus} must be finite")
        self._ngrams, self._weight, self._word_bonus = ngrams, weight, word_bonus
        # Neighbouring hypotheses ask for the same words again and again.
        self.score = lru_cache(maxsize=65_536)(self._score)
        """`score(word, context)` -> what the word adds, and the context after it."""

    def start(self) -> LmContext:
        """Return the context at the beginning of a sentence."""
        return self._ngrams.start()

    def end(self, context: LmContext) -> float:
        """Return what the end of the sentence adds after ``context``."""
        return self._weight * self._ngrams.log_prob("</s>", context)[0]

    def _score(self, word: str, context: LmContext) -> tuple[float, LmContext]:
        log_prob, after = self._ngrams.log_prob(word, context)
        return self._weight * log_prob + self._word_bonus, after


class NgramTable:
    """The n-grams of an ARPA file: probabilities with backoff, for any order. `read_arpa` makes one."""

    def __init__(self, words: dict[str, int], orders: Sequence[_Order]) -> None:
        self._words, self._orders = words, tuple(orders)

    @property
    def order(self) -> int:
        """Words in the longest n-grams."""
        return len(self._orders)

    def start(self) -> LmContext:
        """Return the context at the beginning of a sentence."""
        return self._shortened((self._words["<s>"],)) if "<s>" in self._words else ()

    def log_prob(self, word: str, context: LmContext) -> tuple[float, LmContext]:
        """Return the natural log probability of ``word`` after ``context``, and the context that follows."""
        word_id = self._words.get(word, self._words.get("<unk>"))
        if word_id is None:
            backoffs = sum(self._backoff(context[i:]) for i in range(len(context)))
            return (UNKNOWN_LOG10 + backoffs) * LOG_10, ()
        log10_prob, history = 0.0, context
        while (place := self.find((*history, word_id))) is None:
            log10_prob += self._backoff(history)
            history = history[1:]
        log10_prob += self._orders[len(history)].log10_probs[place]
        return log10_prob * LOG_10, self._shortened((*context, word_id))

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


class _Order(NamedTuple):
    """The n-grams of one order, by rising key: (place of the first n - 1 words in the order below) * words + last."""

    keys: array[int]
    log10_probs: array[float]
    log10_backoffs: array[float]

    def find(self, key: int) -> int | None:
        place = bisect_left(self.keys, key)
        return place if place < len(self.keys) and self.keys[place] == key else None


class _Lines:
    """The lines of a text file that are not empty, gzip or plain, and where we are for error messages."""

    def __init__(self, path: Path) -> None:
        self._path, self._number = path, 0
        self._lines = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def next(self, wanted: str) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self.error(f"the file ends where {wanted} should follow; it is cut short")
        return line

    def error(self, problem: str) -> InputError:
        return InputError(f"{self._path}, line {self._number}: {problem}")

    def _read(self) -> Iterator[str]:
        try:
            with self._path.open("rb") as plain:
                is_gzip = plain.read(2) == b"\x1f\x8b"
            with gzip.open(self._path) if is_gzip else self._path.open("rb") as file:
                while raw := file.readline(MAX_LINE_BYTES):
                    self._number += 1
                    if len(raw) == MAX_LINE_BYTES:
                        raise self.error(f"longer than {MAX_LINE_BYTES} bytes; this is no ARPA language model")
                    if line := raw.decode().strip():
                        yield line
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except (OSError, EOFError, zlib.error) as error:
            raise self.error(f"cannot be read: {error}") from error


def read_arpa(path: str | Path) -> NgramTable:
    """Read an ARPA language model, plain or gzip, of any order.

    Raises:
        InputError: the file cannot be read, is damaged or cut short, or is larger than `MAX_NGRAMS`; the message names
            the line.
    """
    lines = _Lines(Path(path))
    counts = _read_counts(lines)
    words: dict[str, int] = {}
    orders: list[_Order] = []
    for order, count in enumerate(counts, start=1):
        keys, log10_probs, log10_backoffs = array("q"), array("f"), array("f")
        below = NgramTable(words, orders)
        for _ in range(count):
            ngram, log10_prob, log10_backoff = _read_ngram(lines, order, is_highest=order == len(counts))
            keys.append(words.setdefault(ngram[0], len(words)) if order == 1 else _key(lines, ngram, words, below))
            log10_probs.append(log10_prob)
            log10_backoffs.append(log10_backoff)
        orders.append(_sorted_order(lines, order, keys, log10_probs, log10_backoffs))
        wanted = "\\end\\" if order == len(counts) else f"\\{order + 1}-grams:"
        if (line := lines.next(wanted)) != wanted:
            raise lines.error(f"{line[:40]!r} where {wanted} should follow {count} {order}-grams")
    return NgramTable(words, orders)


def _read_counts(lines: _Lines) -> list[int]:
    while lines.next("\\data\\") != "\\data\\":
        pass
    counts: list[int] = []
    while (line := lines.next("\\1-grams:")) != "\\1-grams:":
        match = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if not match or int(match[1]) != len(counts) + 1:
            raise lines.error(f"{line[:40]!r} where 'ngram {len(counts) + 1}=COUNT' or \\1-grams: should be")
        counts.append(int(match[2]))
    if not counts or not counts[0]:
        raise lines.error("no 1-grams; a language model needs words")
    if sum(counts) > MAX_NGRAMS:
        raise lines.error(f"{sum(counts)} n-grams are more than {MAX_NGRAMS}; prune the model")
    return counts


def _read_ngram(lines: _Lines, order: int, is_highest: bool) -> tuple[list[str], float, float]:
    line = lines.next(f"a {order}-gram")
    fields = line.split()
    if len(fields) != order + 1 and (is_highest or len(fields) != order + 2):
        backoff = "" if is_highest else " and perhaps a backoff"
        raise lines.error(
            f"{line[:60]!r} is no {order}-gram: a log10 probability, {order} words{backoff} should be here"
        )
    try:
        log10_prob = float(fields[0])
        log10_backoff = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
    except ValueError as error:
        raise lines.error(f"{line[:60]!r}: {error}") from error
    if not (math.isfinite(log10_prob) and log10_prob <= 0 and math.isfinite(log10_backoff)):
        raise lines.error(f"{line[:60]!r}: a log10 probability is a number of at most 0, a backoff a number")
    return fields[1 : order + 1], log10_prob, log10_backoff


def _key(lines: _Lines, ngram: list[str], words: dict[str, int], below: NgramTable) -> int:
    unknown = [word for word in ngram if word not in words]
    if unknown:
        raise lines.error(f"{unknown[0]!r} is not among the 1-grams")
    ids = tuple(words[word] for word in ngram)
    place = below.find(ids[:-1])
    if place is None:
        raise lines.error(f"its first words {' '.join(ngram[:-1])!r} are not among the {len(ngram) - 1}-grams")
    return place * len(words) + ids[-1]


def _sorted_order(
    lines: _Lines, order: int, keys: array[int], log10_probs: array[float], log10_backoffs: array[float]
) -> _Order:
    unsorted = np.array(keys, dtype=np.int64)
    by_key = np.argsort(unsorted)
    if (np.diff(unsorted[by_key]) == 0).any():
        raise lines.error(f"one of the {order}-grams above is listed twice")
    return _Order(
        array("q", unsorted[by_key].tobytes()),
        array("f", np.array(log10_probs, dtype=np.float32)[by_key].tobytes()),
        array("f", np.array(log10_backoffs, dtype=np.float32)[by_key].tobytes()),
    )
