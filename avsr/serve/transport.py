"""uvicorn's settings for streams of media, and protocols that cut clients which do not read or send no request."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from avsr.serve.limits import Limits

REQUEST_S = 10.0
"""How long the head of a request may take to arrive, also the first one of a connection."""


def web_config(app: FastAPI, limits: Limits, **options: Any) -> uvicorn.Config:
    """Return uvicorn's settings for ``app``; ``options`` say where to listen and what is logged."""
    return uvicorn.Config(
        app,
        http=RequestTimeoutProtocol,
        ws=WebSocketProtocol,
        ws_max_size=limits.max_message_bytes,
        ws_per_message_deflate=False,  # media gain nothing, and a small message could unpack to a large one
        # No pings: the answer queues behind all media that are not read yet, so a fast client would be taken for dead.
        # ``idle_s`` finds dead clients.
        ws_ping_interval=None,
        limit_concurrency=16 * limits.max_sessions + 64,
        access_log=False,
        **options,
    )


class RequestTimeoutProtocol(H11Protocol):
    """Cuts clients that take too long over the head of a request, for which uvicorn would wait without limit."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        super().on_response_complete()
        self._start_timer()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Cancel the timer, which would keep this object alive; the websocket takes over."""
        super().handle_websocket_upgrade(event)
        self._cancel_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        super().connection_lost(exc)
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(REQUEST_S, self._on_timeout)

    def _on_timeout(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Cuts a connection whose conversation is over while the client has not read what it was sent.

    An orderly close would wait for the client to read, perhaps for ever. A client that sends pings without reading is
    cut at once, since the pongs would pile up without bound.
    """

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; replace text that is not UTF-8, so that it is refused as invalid JSON.

        uvicorn would not answer the client, and log a traceback.
        """
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = [b"not UTF-8"]
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer, if the client reads."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    async def run_asgi(self) -> None:
        """Hold the conversation, then make sure that the connection ends."""
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()
