"""What was under way when the connection was lost, when the client comes back for it, or when it fell silent."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from serving import CONFIG, FAST, Server, hear, hear_all, say
from stand_ins import Heard, LampFace, Packet
from starlette.websockets import WebSocketDisconnect, WebSocketState
from test_batcher import rounded
from test_server import captions_of, packed

from avsr.recognizer import Recognizer
from avsr.serve.connection import serve_client
from avsr.serve.protocol import Absent, Config
from avsr.serve.service import Service
from avsr.serve.session import Session


class Line:
    """A websocket of a client that says all it has to say; ``is_broken`` is gone when a final comes after that."""

    def __init__(self, messages: list[str | bytes], *, is_broken: bool) -> None:
        self.application_state = WebSocketState.CONNECTED
        self.heard: list[dict[str, Any]] = []
        self._left, self._is_broken = deque(messages), is_broken

    async def accept(self) -> None:
        """Begin."""

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        message = self._left.popleft()
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def send_text(self, text: str) -> None:
        """Hear an event."""
        self.heard.append(json.loads(text))
        if self._is_broken and not self._left and self.heard[-1]["type"] == "final":
            raise WebSocketDisconnect(1006)

    async def close(self, code: int) -> None:
        """End."""


def test_a_connection_lost_between_the_end_and_the_last_finals_costs_none_of_them(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    end = json.dumps({"type": "end"})

    async def run() -> list[dict[str, Any]]:
        service = Service(engine, FAST, open_landmarker=LampFace)
        first = Line([CONFIG, *packed(clip), end], is_broken=True)
        await serve_client(first, service)  # type: ignore[arg-type]
        resume = {"session": first.heard[0]["session"]}
        second = Line([json.dumps({"type": "config", "resume": resume}), end], is_broken=False)
        await serve_client(second, service)  # type: ignore[arg-type]
        await service.close()
        assert {event["segment"] for event in first.heard if event["type"] == "final"}  # which are told twice
        assert service.metrics.value("avsr_finals_total") == len(expected.finals)
        return second.heard

    events = asyncio.run(run())
    assert captions_of(events) == rounded(expected.finals)
    assert events[-1]["type"] == "done"


def test_more_finals_than_may_wait_come_to_a_client_that_comes_back(
    serve: Callable[..., Server], clip: list[Packet]
) -> None:
    server = serve()
    with server.talk() as client:
        say(client, type="config")
        secret = hear(client, "ready")["session"]
        for message in packed(clip):
            client.send(message)
        hear(client, "final")
        client.socket.shutdown(socket.SHUT_RDWR)
    session = server.service._seats[secret].session
    (first, *_), most = session.finals_from(0), 2 * FAST.max_waiting_events
    session._finals.extend(first.model_copy(update={"segment": 100 + index}) for index in range(most))
    with server.talk() as client:
        say(client, type="config", resume={"session": secret, "next_segment": 100})
        say(client, type="end")
        events = hear_all(client)
    finals = [event["segment"] for event in events if event["type"] == "final"]
    assert finals[:most] == list(range(100, 100 + most))
    assert events[-1]["type"] == "done"


class SlowLine(Line):
    """One through which finals take for ever."""

    async def send_text(self, text: str) -> None:
        """Hear an event."""
        await super().send_text(text)
        if self.heard[-1]["type"] == "final":
            await asyncio.Event().wait()


def test_a_second_resume_does_not_wait_for_a_slow_first_one(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    end = json.dumps({"type": "end"})

    async def run() -> list[dict[str, Any]]:
        service = Service(engine, replace(FAST, stalled_s=60.0), open_landmarker=LampFace)
        first = Line([CONFIG, *packed(clip), end], is_broken=True)
        await serve_client(first, service)  # type: ignore[arg-type]
        resume = json.dumps({"type": "config", "resume": {"session": first.heard[0]["session"]}})
        slow, last = SlowLine([resume], is_broken=False), Line([resume, end], is_broken=False)
        telling = asyncio.create_task(serve_client(slow, service))  # type: ignore[arg-type]
        while not any(event["type"] == "final" for event in slow.heard):
            await asyncio.sleep(0.01)
        await asyncio.wait_for(serve_client(last, service), 20)  # type: ignore[arg-type]
        telling.cancel()
        await asyncio.wait({telling})
        await service.close()
        return last.heard

    assert captions_of(asyncio.run(run())) == rounded(expected.finals)


def test_an_idle_client_gets_the_captions_of_all_it_sent(
    serve: Callable[..., Server], clip: list[Packet], expected: Heard
) -> None:
    with serve(replace(FAST, idle_s=1.5)).talk() as client:
        say(client, type="config")
        hear(client, "ready")
        for message in packed(clip):
            client.send(message)
        events = hear_all(client)
    assert captions_of(events) == rounded(expected.finals)
    assert events[-1]["code"] == "idle"


@pytest.mark.parametrize("ends_in", [asyncio.CancelledError, RuntimeError])
def test_a_stream_is_not_resumed_while_a_lost_connection_still_works_on_it(
    ends_in: type[BaseException], engine: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same message would count as not received, and come twice. A failure is told, so that it is not kept."""
    begun, go_on = threading.Event(), threading.Event()

    def accept(*_: object) -> None:
        begun.set()
        assert go_on.wait(20)
        if ends_in is RuntimeError:
            raise RuntimeError

    monkeypatch.setattr(Session, "accept", accept)

    async def run() -> None:
        service = Service(engine, FAST, open_landmarker=LampFace)
        seat = await service.enter(Config(modality="audio"))
        working = asyncio.create_task(service.accept(seat, Absent(sense="video", time=1.0), 0.0))
        assert await asyncio.to_thread(begun.wait, 20)
        working.cancel()
        done, _ = await asyncio.wait({working}, timeout=0.1)
        assert not done
        go_on.set()
        with pytest.raises(ends_in):
            await working
        await service.close()

    asyncio.run(run())
