"""Language models on disk: ARPA files, as SRILM, KenLM and `avsr lm` write them."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from avsr.decode.lm import NgramOrder, NgramTable
from avsr.decode.tokenizer import normalise_text
from avsr.errors import InputError

MAX_NGRAMS = 50_000_000
"""Larger models are refused: an n-gram takes 16 bytes of memory."""
MAX_TEXT_BYTES = 4 << 30
"""Files that unpack to more text than this are refused."""
LEAST_LINE_BYTES = 16
"""A shorter line counts as this long towards that limit: its n-gram takes this much memory."""
MAX_LINE_BYTES = 65_536
LEAST_USABLE_PERCENT = 10
"""At least this share of the words must be spelled as the engine writes words."""
MAX_LOG10 = 1e30
"""Limit of the size of log10 probabilities and backoffs, which are stored as f32."""


def read_arpa(source: bytes | str | Path, *, max_bytes: int = MAX_TEXT_BYTES) -> NgramTable:
    """Read an ARPA language model, plain or gzip, of any order: the path of one, or its bytes.

    Words in capitals, as in many public models, are read in lower case, as the engine writes them; where a model has
    both "Blue" and "blue", the latter counts.

    Raises:
        InputError: ``source`` is neither; the file cannot be read, is damaged or cut short, or has more than
            `MAX_NGRAMS` n-grams or, unpacked, ``max_bytes`` (the message names the line); or hardly any of its words
            can be written by the engine.
    """
    if not isinstance(source, bytes | str | PathLike):
        raise InputError(f"{source!r} is no language model; give the path of an ARPA file, or its bytes")
    lines = _Lines(source if isinstance(source, bytes) else Path(source), max_bytes)
    counts = _read_counts(lines)
    words: dict[str, int] = {}
    orders: list[NgramOrder] = []
    for order, count in enumerate(counts, start=1):
        orders.append(_read_order(lines, count, words, orders, is_highest=order == len(counts)))
        wanted = "\\end\\" if order == len(counts) else f"\\{order + 1}-grams:"
        if (line := lines.next(wanted)) != wanted:
            raise lines.error(f"{line[:40]!r} where {wanted} should follow {count} {order}-grams")
    words = _in_small_letters(words)
    _require_usable(list(words), lines.name)
    return NgramTable(words, orders)


def write_arpa(ngrams: NgramTable) -> bytes:
    """Return ``ngrams`` as a plain ARPA file. `read_arpa` reads back the same scores where they have 5 decimals."""
    orders = range(1, ngrams.order + 1)
    lines = ["\\data\\", *(f"ngram {order}={count}" for order, count in zip(orders, ngrams.num_ngrams, strict=True))]
    for order in orders:
        lines += ["", f"\\{order}-grams:"]
        for words, log10_prob, log10_backoff in ngrams.ngrams(order):
            backoff = f"\t{log10_backoff:.5f}" if log10_backoff else ""
            lines.append(f"{log10_prob:.5f}\t{words}{backoff}")
    return "\n".join([*lines, "", "\\end\\", ""]).encode()


def _read_counts(lines: _Lines) -> list[int]:
    while lines.next("\\data\\") != "\\data\\":
        pass
    counts: list[int] = []
    while (line := lines.next("\\1-grams:")) != "\\1-grams:":
        match = re.fullmatch(r"ngram\s+(\d{1,18})\s*=\s*(\d{1,18})", line)
        if not match or int(match[1]) != len(counts) + 1:
            raise lines.error(f"{line[:40]!r} where 'ngram {len(counts) + 1}=COUNT' or \\1-grams: should be")
        counts.append(int(match[2]))
    if not counts or not counts[0]:
        raise lines.error("no 1-grams; a language model needs words")
    if sum(counts) > (limit := min(MAX_NGRAMS, lines.bytes_left // LEAST_LINE_BYTES)):
        raise lines.error(f"{sum(counts)} n-grams are more than {limit}; prune the model")
    return counts


def _read_order(
    lines: _Lines, count: int, words: dict[str, int], below: Sequence[NgramOrder], *, is_highest: bool
) -> NgramOrder:
    """Read ``count`` n-grams, one word longer than the longest ``below``; single words are added to ``words``."""
    order = len(below) + 1
    ids, numbers = array("q"), array("q")
    log10_probs, log10_backoffs = array("d"), array("d")
    for line in islice(lines, count):
        fields = line.split()
        if len(fields) != order + 1 and (is_highest or len(fields) != order + 2):
            backoff = "" if is_highest else " and perhaps a backoff"
            raise lines.error(
                f"{line[:60]!r} is no {order}-gram: a log10 probability, {order} words{backoff} should be here"
            )
        try:
            log10_prob = float(fields[0])
            log10_backoff = float(fields[-1]) if len(fields) == order + 2 else 0.0
        except ValueError as error:
            raise lines.error(f"{line[:60]!r}: {error}") from error
        if not (-MAX_LOG10 < log10_prob <= 0 and abs(log10_backoff) < MAX_LOG10):
            raise lines.error(f"{line[:60]!r}: a log10 probability is a number of at most 0, a backoff a number")
        if order == 1 and words.setdefault(fields[1], len(words)) != len(numbers):
            raise lines.error("this 1-gram is listed twice")
        try:
            ids.extend([words[word] for word in fields[1 : order + 1]])
        except KeyError as error:
            raise lines.error(f"{error} is not among the 1-grams") from error
        log10_probs.append(log10_prob)
        log10_backoffs.append(log10_backoff)
        numbers.append(lines.number)
    if len(numbers) < count:
        lines.next(f"a {order}-gram")  # there is none, as it will say
    keys = _keys(lines, np.array(ids).reshape(count, order), numbers, len(words), below)
    by_key = np.argsort(keys)
    if (repeated := np.flatnonzero(np.diff(keys[by_key]) == 0)).size:
        number = max(numbers[by_key[repeated[0] + i]] for i in (0, 1))
        raise lines.error(f"this {order}-gram is listed twice", number)
    return NgramOrder.packed(keys[by_key], np.array(log10_probs)[by_key], np.array(log10_backoffs)[by_key])


def _in_small_letters(words: dict[str, int]) -> dict[str, int]:
    """Return ``words`` in lower case, except where two words would become the same one."""
    named: dict[str, int] = {}
    for word, word_id in words.items():
        small = word.lower()
        named[word if small in words or small in named else small] = word_id
    return named


def _require_usable(words: Sequence[str], name: str | Path) -> None:
    """Refuse a model that cannot help, such as one of word pieces, or of words with marks."""
    least = -(-len(words) * LEAST_USABLE_PERCENT // 100)
    if sum(1 for _ in islice((word for word in words if word == normalise_text(word)), least)) < least:
        other = next((word for word in words if not word.startswith("<") and word != normalise_text(word)), words[0])
        raise InputError(
            f"{name}: hardly any of its words are spelled as in transcripts (without punctuation): {other!r} is not; "
            "train another model from text: avsr lm TEXT -o FILE.arpa"
        )


def _keys(
    lines: _Lines, ids: npt.NDArray[np.int64], numbers: Sequence[int], num_words: int, below: Sequence[NgramOrder]
) -> npt.NDArray[np.int64]:
    """The key of each n-gram in ``ids`` (n, order), read from the lines ``numbers``."""
    keys = ids[:, 0]
    for length, shorter in enumerate(below, start=1):
        listed = np.frombuffer(shorter.keys, np.int64)
        places = np.searchsorted(listed, keys)
        is_listed = (
            listed[np.minimum(places, len(listed) - 1)] == keys if len(listed) else np.zeros(len(keys), np.bool_)
        )
        if not is_listed.all():
            number = numbers[int(np.argmin(is_listed))]
            raise lines.error(f"the first {length} words of this n-gram are not among the {length}-grams", number)
        keys = places * num_words + ids[:, length]
    return keys


class _Lines:
    """The lines of a text file that are not empty, gzip or plain, and where we are for error messages."""

    def __init__(self, source: bytes | Path, max_bytes: int) -> None:
        self._source, self.bytes_left, self.number = source, max_bytes, 0
        self.name = "the language model" if isinstance(source, bytes) else source
        self._lines = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def next(self, wanted: str) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self.error(f"the file ends where {wanted} should follow; it is cut short")
        return line

    def error(self, problem: str, number: int | None = None) -> InputError:
        """Return an error at line ``number``; None for the line that was read last, if there is one."""
        number = self.number if number is None else number
        return InputError(f"{self.name}{f', line {number}' if number else ''}: {problem}")

    def _open(self) -> BinaryIO:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source.open("rb")

    def _read(self) -> Iterator[str]:
        try:
            with self._open() as packed:
                is_gzip = packed.read(2) == b"\x1f\x8b"
                packed.seek(0)
                file = io.BufferedReader(gzip.GzipFile(fileobj=packed)) if is_gzip else packed
                while raw := file.readline(MAX_LINE_BYTES):
                    self.number += 1
                    self.bytes_left -= max(len(raw), LEAST_LINE_BYTES)
                    if len(raw) == MAX_LINE_BYTES:
                        raise self.error(f"longer than {MAX_LINE_BYTES} bytes; this is no ARPA language model")
                    if self.bytes_left < 0:
                        raise self.error("the text up to here is larger than is allowed; prune the model")
                    # Some editors begin a text with a byte-order mark.
                    if line := raw.decode("utf-8-sig" if self.number == 1 else "utf-8").strip():
                        yield line
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except (OSError, EOFError, zlib.error) as error:
            if reason := getattr(error, "strerror", None):
                raise self.error(f"cannot be read ({reason}); give an ARPA file, plain or gzip") from error
            raise self.error(f"cannot be read: {error}; copy it again") from error
