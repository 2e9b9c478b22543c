"""The demo's film and sound, as much of them as tests of the bench need."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuts import cut

import avsr

DEMO = Path(avsr.__file__).parent / "talker" / "demo"


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1.64 s of the demo's clip: 41 pictures, and "bin blue at"."""
    return cut(DEMO / "bin_blue.mp4", tmp_path_factory.mktemp("film") / "bin_blue.mp4", 1.64)


@pytest.fixture(scope="session")
def babble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 2 s of the demo's babble."""
    return cut(DEMO / "babble.ogg", tmp_path_factory.mktemp("sound") / "babble.ogg", 2.0)
