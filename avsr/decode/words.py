"""From tokens with ticks to words with seconds."""

from __future__ import annotations

import math

from avsr.decode.beam import Hypothesis
from avsr.decode.tokenizer import WORD_MARK, Tokenizer
from avsr.types import TICK_S, Word

LEAD_TICKS = 4
"""A word begins this long before its first token (0.16 s): a causal network must hear some of a word to write it.

On GRID, words then begin within 0.05 s of the corpus' own times on average; without it, 0.18 s late.
"""


def timed_words(hypothesis: Hypothesis, tokenizer: Tokenizer) -> tuple[Word, ...]:
    """Return the words of ``hypothesis``, times in seconds since the start of the stream.

    A word lasts from ``LEAD_TICKS`` before the first tick of its first token to the end of the last tick of its last
    token, in the best alignment. So neighbours may overlap, and the first word may begin before the stream. Its
    confidence is the geometric mean of its tokens' highest posteriors there.
    """
    starts = [i for i, token in enumerate(hypothesis.tokens) if i == 0 or tokenizer.is_word_start(token)]
    ends = [*starts[1:], len(hypothesis.tokens)]
    words = (_word(hypothesis, tokenizer, start, end) for start, end in zip(starts, ends, strict=False))
    return tuple(word for word in words if word.text)


def seconds(tick: int) -> float:
    """Return the time at which ``tick`` begins, rounded to 10 ms (ticks are multiples of it)."""
    return round(tick * TICK_S, 2)


def _word(hypothesis: Hypothesis, tokenizer: Tokenizer, first: int, end: int) -> Word:
    logs = [math.log(max(c, 1e-30)) for c in hypothesis.confidences[first:end]]
    return Word(
        text="".join(tokenizer.pieces[token] for token in hypothesis.tokens[first:end]).replace(WORD_MARK, ""),
        start_s=seconds(hypothesis.ticks[first] - LEAD_TICKS),
        end_s=seconds(hypothesis.end_ticks[end - 1] + 1),
        confidence=min(1.0, math.exp(sum(logs) / len(logs))),
    )
