"""One tiny engine for the live tests."""

from __future__ import annotations

import pytest
from stand_ins import tiny_recognizer

from avsr.recognizer import Recognizer


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """An untrained engine whose words depend on all that it hears and sees."""
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")
