"""A corpus that a tiny network can learn in seconds."""

from __future__ import annotations

import numpy as np
import pytest
from toy_clips import WORDS, make_clip, write_pack

from avsr.config import FeatureConfig
from avsr.decode import Tokenizer, train_tokenizer
from avsr.train.prepared import PreparedCorpus
from avsr.types import NUM_MELS


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A few whole words, and letters."""
    return Tokenizer(train_tokenizer([" ".join(WORDS)] * 4, 48))


@pytest.fixture(scope="session")
def features() -> FeatureConfig:
    """Plain statistics."""
    return FeatureConfig(mel_mean=(-6.0,) * NUM_MELS, mel_std=(3.0,) * NUM_MELS)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PreparedCorpus:
    """Twelve clips of three words: 8 to train from, 4 in the split "dev"."""
    directory = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(3)
    made = [make_clip([str(word) for word in rng.permutation(WORDS)[:3]], index) for index in range(12)]
    write_pack(directory, made)
    return PreparedCorpus(directory)
