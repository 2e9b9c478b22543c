"""A corpus that a tiny network can learn in seconds."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from toy_clips import WORDS, make_clip, write_pack
from toy_training import FEATURES, MakeTrainer, toy_tokenizer, toy_trainer

from avsr.config import FeatureConfig
from avsr.decode import Tokenizer
from avsr.train.packs.reader import PreparedCorpus


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A few whole words, and letters."""
    return toy_tokenizer()


@pytest.fixture(scope="session")
def features() -> FeatureConfig:
    """Plain statistics."""
    return FEATURES


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of three words: 8 to train from, 4 in the split "dev"."""
    directory = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(3)
    write_pack(directory, [make_clip([str(word) for word in rng.permutation(WORDS)[:3]], i) for i in range(12)])
    return directory


@pytest.fixture(scope="session")
def corpus(pack: Path) -> PreparedCorpus:
    """The clips of ``pack``."""
    return PreparedCorpus(pack)


@pytest.fixture
def make_trainer(corpus: PreparedCorpus) -> MakeTrainer:
    """``make_trainer(directory, branch, **settings)``: a trainer of a tiny network on the toy clips."""
    return lambda directory, branch, *rest, **settings: toy_trainer(corpus, directory, branch, *rest, **settings)


@pytest.fixture(scope="session")
def readied() -> ForkServerContext:
    """Processes that begin with the imported PyTorch of one that does nothing else: each takes seconds to import it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "torch.utils.tensorboard", "cv2", "pydantic"])
    return context
