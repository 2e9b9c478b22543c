"""How uvicorn is set up for streams of media, and its websocket, which lets go of clients that do not read."""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from avsr.serve.limits import Limits


def web_config(app: FastAPI, limits: Limits, **options: Any) -> uvicorn.Config:
    """Return uvicorn's settings for ``app``; ``options`` say where to listen and what is logged."""
    return uvicorn.Config(
        app,
        ws=Wire,
        ws_max_size=limits.max_message_bytes,
        ws_per_message_deflate=False,  # media gain nothing, and a small message could unpack to a large one
        # The answer to a ping waits behind all the media that are not read yet: a fast client would be thought dead.
        # Whether a client is alive is what ``idle_s`` finds out.
        ws_ping_interval=None,
        limit_concurrency=16 * limits.max_sessions + 64,
        access_log=False,
        **options,
    )


class Wire(WebSocketsSansIOProtocol):
    """Cuts a connection when its conversation is over and the client has not read what it was sent.

    To close it in good order would wait for the client to read, which may be for ever.
    """

    async def run_asgi(self) -> None:
        """Hold the conversation, then make sure that the connection ends."""
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()
