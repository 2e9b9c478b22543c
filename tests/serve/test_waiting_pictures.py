"""Pictures wait for their sound as the files they came in, and only so many bytes of them."""

from __future__ import annotations

import time

import pytest
from serving import Server  # noqa: F401  (skips where the extra is not installed)
from stand_ins import LampFace, Packet, pictures, sound

from avsr.media import AudioPacket
from avsr.recognizer import Recognizer
from avsr.serve import session as module
from avsr.serve.client import messages
from avsr.serve.pictures import FileFrame
from avsr.serve.protocol import CaptionEvent, Config, Picture
from avsr.serve.session import Session

DURATION_S = 3.0


def opened(engine: Recognizer) -> Session:
    return Session(
        engine,
        engine.network,
        Config(),
        secret="",
        number=0,
        max_picture_side=1280,
        open_landmarker=LampFace,
        on_final=lambda final: None,
    )


def told(session: Session, packets: list[Packet]) -> list[CaptionEvent]:
    """Send everything; return the finals, as if nothing had been timed."""
    for message in messages(packets):
        session.accept(message, time.monotonic())
    session.finish()
    return [final.model_copy(update={"latency_ms": None}) for final in session.finals_from(0)]


def waiting(session: Session) -> dict[int, FileFrame]:
    parts = session._stream.state.front.pictures
    frames = [frame for part in parts for frame in (part.before, part.after)]
    return {id(frame): frame for frame in frames if isinstance(frame, FileFrame)}


def test_pictures_wait_undecoded(engine: Recognizer) -> None:
    session, sent = opened(engine), 0
    for message in messages(pictures(1.8)):
        assert isinstance(message, Picture)
        sent += message.num_bytes
        session.accept(message, time.monotonic())
    assert len(waiting(session)) == 45
    assert session._num_waiting_bytes() == sent
    session.close()


def test_without_sound_the_limit_changes_no_caption(engine: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    packets: list[Packet] = [*pictures(DURATION_S)]
    expected = told(opened(engine), packets)
    assert any(final.words for final in expected)
    limit = 5 * next(message.num_bytes for message in messages(packets))
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", limit)
    session, most = opened(engine), 0
    for message in messages(packets):
        session.accept(message, time.monotonic())
        most = max(most, session._num_waiting_bytes())
    assert 0 < most <= limit
    assert told(session, []) == expected


def test_sound_that_lags_behind_too_many_pictures_is_counted(
    engine: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1)
    session = opened(engine)
    samples = sound(DURATION_S)
    late = [AudioPacket(samples[i : i + 640], 16_000, i / 16_000) for i in range(0, len(samples), 640)]
    told(session, [*pictures(1.0), *late])
    assert session.status is not None
    assert session.status.dropped.audio_s == pytest.approx(1.0, abs=0.1)
