"""Word n-gram language models learned from text: interpolated modified Kneser-Ney (Chen & Goodman 1999, section 3).

An n-gram h w, of which h' w is all but the first word, has the probability

    p(w | h) = (c(h w) - D(c(h w))) / sum_v c(h v)  +  gamma(h) p(w | h')

where c counts, in the longest n-grams and in those that begin a sentence, how often they occur, and in the others how
many different words they follow. D takes more off from n-grams counted once, twice, and three times or more, and
gamma(h) is what was taken off. Single words end in the uniform distribution, in which ``<unk>`` has its share.
"""

from __future__ import annotations

import gzip
import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from avsr.config import PositiveInt, Section
from avsr.decode.arpa import write_arpa
from avsr.decode.lm import END, START, START_LOG10, UNKNOWN, NgramOrder, NgramTable
from avsr.decode.tokenizer import normalise_text
from avsr.errors import InputError

UNKNOWN_ID, START_ID, END_ID = 0, 1, 2
MARKS = {UNKNOWN: UNKNOWN_ID, START: START_ID, END: END_ID}
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Used where they cannot be estimated: in a closed grammar every n-gram is frequent and none occurs only once."""
DECIMALS = 5
"""Of what is written; scores are rounded before they are used, so that a model is the same before and after."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
OnProgress = Callable[[str], None]


class NgramConfig(Section):
    """What is learned from a text.

    N-grams of up to ``order`` words. ``min_counts``: how often an n-gram must occur to be listed, for 2-grams, 3-grams
    and so on; the last number holds for all longer ones, and single words always stay. ``vocab_size``: only so many of
    the most frequent words are known, and all others are ``<unk>``; None for all.
    """

    order: int = Field(3, ge=1, le=5)
    min_counts: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4, strict=False)] = (1,)
    vocab_size: PositiveInt | None = None

    @field_validator("min_counts")
    @classmethod
    def _never_falling(cls, min_counts: tuple[int, ...]) -> tuple[int, ...]:
        if list(min_counts) != sorted(min_counts):
            raise ValueError("allowed: counts that never fall, such as [1, 2]; a long n-gram needs its shorter ones")
        return min_counts

    def min_count(self, order: int) -> int:
        """Return how often an n-gram of ``order`` words must occur."""
        return 0 if order == 1 else self.min_counts[min(order - 2, len(self.min_counts) - 1)]


class LmConfig(NgramConfig):
    """The language model of a recipe: ``texts`` are files of sentences to learn from beside the transcripts."""

    texts: Annotated[tuple[str, ...], Field(strict=False)] = ()


def read_sentences(text: Path) -> Iterator[str]:
    """Yield the lines of a text, a sentence each.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with text.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{text}: cannot be read as UTF-8 text, to learn a language model from: {error}") from error


def gzip_arpa(ngrams: NgramTable) -> bytes:
    """Return a model as a bundle holds it: a gzip ARPA file, the same bytes every time."""
    return gzip.compress(write_arpa(ngrams), mtime=0)


def train_ngrams(
    lines: Iterable[str], config: NgramConfig | None = None, on_progress: OnProgress = lambda stage: None
) -> NgramTable:
    """Learn a model from ``lines``, a sentence each, normalised as transcripts are.

    It takes about 150 bytes of memory a word of text. ``on_progress`` is called with a description of each stage.

    Raises:
        InputError: there is no word in ``lines``.
    """
    config = config or NgramConfig()
    words, tokens = _read_words(lines, config.vocab_size)
    counted = []
    for order, counts in enumerate(_count(tokens, len(words), config.order), start=1):
        on_progress(f"counted {len(counts.keys)} {order}-grams")
        counted.append(counts)
    return _estimate(words, counted, config)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a model predicts a text: ``log_prob``, natural log, is of known words and sentence ends."""

    num_words: int
    num_unknown: int
    num_sentences: int
    log_prob: float

    @property
    def unknown_share(self) -> float:
        """Unknown words among all words."""
        return self.num_unknown / self.num_words

    @property
    def perplexity(self) -> float:
        """Of known words and sentence ends; unknown words do not count, so compare models that know the same words."""
        return math.exp(-self.log_prob / (self.num_words - self.num_unknown + self.num_sentences))


def measure_fit(ngrams: NgramTable, lines: Iterable[str]) -> Fit:
    """Score ``lines``, normalised as for training.

    Raises:
        InputError: there is no word in ``lines``.
    """
    num_words = num_unknown = num_sentences = 0
    total = 0.0
    for words in filter(None, (normalise_text(line).split() for line in lines)):
        num_sentences, num_words = num_sentences + 1, num_words + len(words)
        context = ngrams.start()
        for word in [*words, END]:
            log_prob, context = ngrams.log_prob(word, context)
            if word in ngrams:
                total += log_prob
            else:
                num_unknown += 1
    if not num_words:
        raise InputError("there are no words to measure the language model with: every line is empty")
    return Fit(num_words, num_unknown, num_sentences, total)


def _read_words(lines: Iterable[str], vocab_size: int | None) -> tuple[dict[str, int], Ints]:
    """Return the words by id, the most frequent ones first, and the text as ids with its sentence marks."""
    first_ids, text = dict(MARKS), array("i")
    for words in filter(None, (normalise_text(line).split() for line in lines)):
        text.append(START_ID)
        text.extend([first_ids.setdefault(word, len(first_ids)) for word in words])
        text.append(END_ID)
    if not text:
        raise InputError("a language model cannot be learned from no text: every line is empty")
    tokens = np.frombuffer(text, np.int32).astype(np.int64)
    names, counts = list(first_ids), np.bincount(tokens, minlength=len(first_ids))
    counts[: len(MARKS)] = np.iinfo(np.int64).max  # they keep their ids
    by_count = np.argsort(-counts, kind="stable")[: None if vocab_size is None else len(MARKS) + vocab_size]
    new_ids = np.full(len(names), UNKNOWN_ID)
    new_ids[by_count] = np.arange(len(by_count))
    return {names[old]: new for new, old in enumerate(by_count)}, new_ids[tokens]


@dataclass(frozen=True, slots=True)
class _Counts:
    """The different n-grams of one order, by rising key as in `NgramOrder`.

    ``prefixes`` and ``suffixes`` are the places, among the n-grams of the order below, of all but the last word and of
    all but the first. ``seen`` counts occurrences; ``begins`` is true of those that begin a sentence, ``is_words``
    where they are single words.
    """

    keys: Ints
    prefixes: Ints
    suffixes: Ints
    seen: Ints
    begins: npt.NDArray[np.bool_]
    is_words: bool


def _count(tokens: Ints, num_words: int, max_order: int) -> Iterator[_Counts]:
    ids = np.arange(num_words)
    yield _Counts(ids, ids * 0, ids * 0, np.bincount(tokens, minlength=num_words), ids == START_ID, is_words=True)
    sentence = np.cumsum(tokens == START_ID)
    starts = np.arange(len(tokens))  # where the n-grams of this order begin in the text
    places = tokens  # and which ones they are
    for order in range(2, max_order + 1):
        starts = starts[starts + order - 1 < len(tokens)]
        ends = starts + order - 1
        is_whole = sentence[starts] == sentence[ends]
        starts, ends = starts[is_whole], ends[is_whole]
        keys, firsts, inverse, seen = np.unique(
            places[starts] * num_words + tokens[ends], return_index=True, return_inverse=True, return_counts=True
        )
        examples = starts[firsts]
        yield _Counts(keys, keys // num_words, places[examples + 1], seen, tokens[examples] == START_ID, is_words=False)
        places = np.full(len(tokens), -1)
        places[starts] = inverse


def _estimate(words: dict[str, int], counted: list[_Counts], config: NgramConfig) -> NgramTable:
    kept = [counts.seen >= config.min_count(order) for order, counts in enumerate(counted, start=1)]
    discountable = [_kneser_ney_counts(*pair) for pair in zip(counted, [*counted[1:], None], strict=True)]
    probs, gammas = [_word_probs(discountable[0])], []
    for counts, seen, is_kept in zip(counted[1:], discountable[1:], kept[1:], strict=True):
        shorter = probs[-1]
        discounted = seen - _discounts(seen)[np.minimum(seen, 3)]
        totals = np.bincount(counts.prefixes, seen, len(shorter))
        # What is not given to listed n-grams is the shorter ones' to give: so whatever is pruned, the sum stays 1.
        given = np.bincount(counts.prefixes, discounted * is_kept, len(shorter))
        gammas.append(1 - given / np.maximum(totals, 1))
        probs.append(discounted / totals[counts.prefixes] + gammas[-1][counts.prefixes] * shorter[counts.suffixes])
    gammas.append(np.ones(len(probs[-1])))
    return NgramTable(words, list(_listed(counted, kept, probs, gammas)))


def _kneser_ney_counts(counts: _Counts, longer: _Counts | None) -> Ints:
    """How many different words each n-gram follows; how often it occurs where none could stand before it."""
    if longer is None:
        seen = counts.seen
    else:
        followed = np.bincount(longer.suffixes, minlength=len(counts.keys))
        seen = np.where(counts.begins, counts.seen, followed)
    return np.where(counts.keys == START_ID, 0, seen) if counts.is_words else seen


def _word_probs(seen: Ints) -> Floats:
    """Probabilities of single words; of ``<s>`` none, since nothing comes before it."""
    discounted, total = seen - _discounts(seen)[np.minimum(seen, 3)], seen.sum()
    uniform = np.where(np.arange(len(seen)) == START_ID, 0.0, 1 / (len(seen) - 1))
    probs: Floats = discounted / total + (1 - discounted.sum() / total) * uniform
    return probs


def _discounts(seen: Ints) -> Floats:
    """What is taken off counts of 0, 1, 2, and 3 or more."""
    n1, n2, n3, n4 = np.bincount(seen, minlength=5)[1:5].tolist()
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 < discount < count for count, discount in enumerate(found, start=1)):
            return np.array([0.0, *found])
    return np.array([0.0, *FALLBACK_DISCOUNTS])


def _listed(
    counted: list[_Counts], kept: list[npt.NDArray[np.bool_]], probs: list[Floats], gammas: list[Floats]
) -> Iterator[NgramOrder]:
    """What was kept, its places counted anew."""
    num_words, new_places = len(counted[0].keys), np.zeros(0, np.int64)
    for counts, is_kept, prob, gamma in zip(counted, kept, probs, gammas, strict=True):
        keys = counts.keys
        if not counts.is_words:
            keys = new_places[counts.prefixes] * num_words + keys % num_words
        log10_probs = np.log10(prob, where=prob > 0, out=np.full(len(prob), START_LOG10))
        yield NgramOrder.packed(
            keys[is_kept],
            np.round(np.minimum(log10_probs, 0), DECIMALS)[is_kept],
            np.round(np.log10(gamma), DECIMALS)[is_kept],
        )
        new_places = np.cumsum(is_kept) - 1
