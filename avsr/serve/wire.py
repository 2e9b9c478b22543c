"""The websocket of uvicorn, which lets go of clients that do not read."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class Wire(WebSocketsSansIOProtocol):
    """Cuts a connection when its conversation is over and the client has not read what it was sent.

    To close it in good order would wait for the client to read, which may be for ever.
    """

    async def run_asgi(self) -> None:
        """Hold the conversation, then make sure that the connection ends."""
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()
