"""A real server on a free port, and a client that sends what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'avsr[serve]'")
import uvicorn
from stand_ins import Packet
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from avsr.serve.app import create_app
from avsr.serve.client import Client
from avsr.serve.limits import Limits
from avsr.serve.protocol import AnyEvent, Config
from avsr.serve.service import Service
from avsr.serve.transport import web_config

CONFIG = json.dumps({"type": "config"})
"""The shortest beginning."""
FAST = Limits(max_sessions=4, max_speed=1000, max_messages_per_s=1e6, max_bytes_per_s=1e9)


class Server:
    """A server in a thread; ``url`` of its websocket, ``http`` of its page."""

    def __init__(self, service: Service, *, port: int = 0, **options: Any) -> None:
        self.service = service
        app = create_app(service, **options)
        config = web_config(app, service.limits, port=port, log_level="error", timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self.connections = self._server.server_state.connections
        self.listener = listener = config.bind_socket()
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.url, self.http = f"ws://{self.address}/ws", f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        listener.listen()  # so that clients need not wait until it runs
        self._thread.start()

    def close(self) -> None:
        """Stop it, as Ctrl-C does."""
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def kill(self) -> None:
        """Close all sockets at once, as the end of the process would: no goodbye, and nobody can connect."""
        (listening,) = self._server.servers

        def break_off() -> None:
            listening.close()
            for connection in list(self.connections):
                connection.transport.abort()

        listening.get_loop().call_soon_threadsafe(break_off)
        self.close()

    def talk(self, **options: Any) -> contextlib.AbstractContextManager[ClientConnection]:
        """Connect as a client."""
        return connect(self.url, compression=None, max_size=None, **options)


def say(socket: ClientConnection, **message: Any) -> None:
    """Send JSON."""
    socket.send(json.dumps(message))


def hear(socket: ClientConnection, kind: str | None = None, timeout_s: float = 20.0) -> dict[str, Any]:
    """Return the next event, or the next one of ``kind``."""
    while True:
        event: dict[str, Any] = json.loads(socket.recv(timeout_s))
        if kind is None or event["type"] == kind:
            return event


def hear_all(socket: ClientConnection) -> list[dict[str, Any]]:
    """Return the events until the server closes."""
    events: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            events.append(json.loads(socket.recv(20)))
    return events


def run_client(server: Server, clip: list[Packet], config: Config | None = None) -> list[AnyEvent]:
    """Send a clip by the client of the package; return the events."""
    events: list[AnyEvent] = []
    asyncio.run(Client(server.url, events.append).send(clip, config or Config()))
    return events


def refusal(server: Server, *sent: str | bytes) -> tuple[str, int | None]:
    """Send messages; return the code of the error event and of the close."""
    with server.talk() as client:
        for message in sent:
            with contextlib.suppress(ConnectionClosed):
                client.send(message)
        events = hear_all(client)
    return events[-1]["code"], client.close_code
