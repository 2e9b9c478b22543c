"""From tokens with ticks to words with seconds."""

from __future__ import annotations

import math

from avsr.decode.beam import Hypothesis
from avsr.decode.tokenizer import WORD_MARK, Tokenizer
from avsr.types import TICK_S, Word

LEAD_TICKS = 4
"""A word begins so long before its first token is written (0.16 s): a causal network must have heard some of it.

On GRID words so begin within 0.05 s of the corpus' own times on the average, which else were 0.18 s late.
"""


def timed_words(hypothesis: Hypothesis, tokenizer: Tokenizer) -> tuple[Word, ...]:
    """Return the words of ``hypothesis``, times in seconds since the start of the stream.

    A word lasts from ``LEAD_TICKS`` before the first tick of its first token to the end of the last tick of its last
    token, in the best alignment, so that neighbours may overlap, and the first begin before the stream. Its confidence
    is the geometric mean of its tokens' highest posteriors there.
    """
    starts = [i for i, token in enumerate(hypothesis.tokens) if i == 0 or tokenizer.is_word_start(token)]
    ends = [*starts[1:], len(hypothesis.tokens)]
    words = (_word(hypothesis, tokenizer, start, end) for start, end in zip(starts, ends, strict=False))
    return tuple(word for word in words if word.text)


def seconds(tick: int) -> float:
    """Return the time at which ``tick`` begins, without the dust of binary fractions."""
    return round(tick * TICK_S, 2)


def _word(hypothesis: Hypothesis, tokenizer: Tokenizer, first: int, end: int) -> Word:
    logs = [math.log(max(c, 1e-30)) for c in hypothesis.confidences[first:end]]
    return Word(
        text="".join(tokenizer.pieces[token] for token in hypothesis.tokens[first:end]).replace(WORD_MARK, ""),
        start_s=seconds(hypothesis.ticks[first] - LEAD_TICKS),
        end_s=seconds(hypothesis.end_ticks[end - 1] + 1),
        confidence=min(1.0, math.exp(sum(logs) / len(logs))),
    )
