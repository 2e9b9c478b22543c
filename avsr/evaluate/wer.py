"""Word error rate."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer

from avsr.errors import InputError


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return (substitutions + deletions + insertions) / reference words, over all sentences together.

    Raises:
        InputError: the lists differ in length, or there is no reference word.
    """
    if len(references) != len(hypotheses):
        raise InputError(f"{len(references)} references but {len(hypotheses)} hypotheses; give one for each")
    if not any(reference.split() for reference in references):
        raise InputError("no reference has a word, so there is no word error rate")
    return float(jiwer.wer(list(references), list(hypotheses)))
