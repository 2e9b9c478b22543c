"""Tokenizers, and log-probabilities that look like speech."""

from __future__ import annotations

import numpy as np
import pytest
from decode_names import GRID_WORDS, Say

from avsr.decode import Tokenizer, train_tokenizer
from avsr.types import FloatArray


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    """Pieces are single letters and the word mark."""
    return Tokenizer(train_tokenizer(["any text"], 30))


@pytest.fixture(scope="session")
def grid() -> Tokenizer:
    """Whole GRID words, and letters for the rest."""
    rng = np.random.default_rng(0)
    return Tokenizer(train_tokenizer([" ".join(rng.permutation(GRID_WORDS)) for _ in range(40)], 128))


@pytest.fixture(scope="session")
def noise() -> Say:
    """`noise(seed, num_ticks, vocab_size, spread=...)`: random log-probabilities f32 (num_ticks, vocab_size)."""

    def make(seed: int, num_ticks: int, vocab_size: int, spread: float = 1.0) -> FloatArray:
        return _normalised(np.random.default_rng(seed).normal(scale=spread, size=(num_ticks, vocab_size)))

    return make


@pytest.fixture(scope="session")
def say() -> Say:
    """`say(tokenizer, "bin blue", gap=3, before=5, after=30)`: each token is one sure tick, then ``gap`` blank ones."""

    def make(
        tokenizer: Tokenizer,
        text: str,
        gap: int = 3,
        before: int = 5,
        after: int = 0,
        doubt: float = 1.0,
        seed: int = 0,
    ) -> FloatArray:
        ids = [tokenizer.blank_id] * before
        for token in tokenizer.encode(text):
            ids += [token, *[tokenizer.blank_id] * gap]
        ids += [tokenizer.blank_id] * after
        logits = np.random.default_rng(seed).normal(scale=doubt, size=(len(ids), tokenizer.vocab_size))
        logits[np.arange(len(ids)), ids] += 14.0
        return _normalised(logits)

    return make


def _normalised(logits: np.ndarray) -> FloatArray:
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
