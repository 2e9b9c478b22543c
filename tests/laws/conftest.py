"""One tiny engine for all the laws, and what it hears and sees."""

from __future__ import annotations

import pytest
from stand_ins import Heard, LampFace, Packet, listen, packets_of, pictures, sound, tiny_recognizer

from avsr.recognizer import Recognizer

CLIP_S = 3.0


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """An engine whose bundle went to disk and back."""
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def clip() -> list[Packet]:
    """Both senses, one tick a packet, in the order of their times."""
    return packets_of(sound(CLIP_S), pictures(CLIP_S))


@pytest.fixture(scope="session")
def expected(engine: Recognizer, clip: list[Packet]) -> Heard:
    """What the engine says to ``clip``: enough that a lost, doubled or shifted tick would show."""
    heard = listen(engine.stream(landmarker=LampFace()), clip)
    assert len(heard.finals) >= 3
    assert heard.num_words >= 9
    return heard
