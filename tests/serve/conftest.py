"""Servers with the tiny engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from serving import FAST, Server
from stand_ins import Heard, LampFace, Packet, listen, packets_of, pictures, sound, tiny_recognizer

from avsr.recognizer import Recognizer
from avsr.serve.limits import Limits
from avsr.serve.service import Service


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """An engine of random weights."""
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def clip() -> list[Packet]:
    """Both senses, in the order of their times."""
    return packets_of(sound(3.0), pictures(3.0))


@pytest.fixture
def serve(engine: Recognizer) -> Iterator[Callable[..., Server]]:
    """Start servers, and stop them after the test."""
    with contextlib.ExitStack() as stack:

        def start(
            limits: Limits = FAST, *, port: int = 0, allowed_origins: tuple[str, ...] = (), **options: Any
        ) -> Server:
            service = Service(engine, limits, open_landmarker=LampFace, **options)
            server = Server(service, port=port, allowed_origins=allowed_origins)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="session")
def expected(engine: Recognizer, clip: list[Packet]) -> Heard:
    """What a stream says to the clip."""
    heard = listen(engine.stream(landmarker=LampFace()), clip)
    assert len(heard.finals) >= 3
    return heard
