"""One websocket, from its first message to its close."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from avsr.serve.limits import Pace
from avsr.serve.logs import log
from avsr.serve.outbox import Outbox, StalledClientError
from avsr.serve.protocol import (
    CLOSE_CODES,
    Absent,
    CaptionEvent,
    Config,
    End,
    ErrorEvent,
    ProtocolError,
    Status,
    parse_media,
    parse_text,
)
from avsr.serve.service import Seat, Service

POLICY_VIOLATION = 1008
CLOSE_TIMEOUT_S = 2.0
"""How long closing a websocket may take."""
TAKEN_OVER = "another connection has resumed this stream"
CLIENT_GONE = (WebSocketDisconnect, StalledClientError, asyncio.CancelledError)
"""Raised when the client is gone or does not read."""


async def serve_client(websocket: WebSocket, service: Service) -> None:
    """Serve one client until either side ends the connection; its errors do not affect others."""
    service.num_connections += 1
    connection = Connection(websocket, service)
    try:
        await websocket.accept()
        await connection.run()
    except WebSocketDisconnect:
        pass
    except StalledClientError:
        service.metrics.add("avsr_stalled_total")
        log("client_stalled", session=connection.number)
        await _close(websocket, POLICY_VIOLATION)
    finally:
        service.num_connections -= 1


class Connection:
    """Takes messages one by one. Each is recognised before the next is read, which throttles a fast client (TCP).

    Raises from ``run``:
        WebSocketDisconnect: the client has gone.
        StalledClientError: the client does not read.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket, self._service, self._limits = websocket, service, service.limits
        self._pace = Pace(service.limits)
        self._outbox = Outbox(
            websocket.send_text, stalled_s=service.limits.stalled_s, max_waiting=service.limits.max_waiting_events
        )
        self._next_segment = 0
        self._sent: tuple[CaptionEvent | Status | None, ...] = ()
        self.number: int | None = None

    async def run(self) -> None:
        """Hold the conversation."""
        sending = asyncio.create_task(self._outbox.run())
        talking = asyncio.create_task(self._talk())
        try:
            await asyncio.wait({sending, talking}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                close_code = talking.result()
                self._outbox.end()
                await asyncio.wait_for(sending, self._limits.stalled_s)
                await _close(self._websocket, close_code)
            else:
                sending.result()
        except asyncio.TimeoutError:
            raise StalledClientError from None
        finally:
            for task in (sending, talking):
                task.cancel()
            await asyncio.gather(sending, talking, return_exceptions=True)

    async def _talk(self) -> int:
        """Return the code to close with."""
        try:
            await self._stream()
        except ProtocolError as error:
            return self._refuse(error)
        except CLIENT_GONE:
            raise
        except Exception as error:
            log("fault", session=self.number, error=repr(error))
            return self._refuse(
                ProtocolError("internal", "the server failed while processing this stream; start a new one")
            )
        return 1000

    async def _stream(self) -> None:
        config = await self._config()
        seat = await self._service.enter(config)
        self.number = seat.session.number
        keep = False
        try:
            self._outbox.put(self._service.ready(seat, resumed=config.resume is not None))
            if config.resume is not None:
                self._next_segment = config.resume.next_segment
                await self._catch_up(seat)
            while not await self._take(seat):
                self._send_new(seat)
            done = await self._service.finish(seat)
            self._send_new(seat)
            self._outbox.put(done)
            await self._deliver()
        except ProtocolError as error:
            keep = error.code == "taken_over"
            raise
        except CLIENT_GONE:
            keep = True  # the client may come back
            raise
        finally:
            self._service.leave(seat, keep=keep)

    async def _config(self) -> Config:
        try:
            data = await asyncio.wait_for(_receive(self._websocket), self._limits.config_s)
        except asyncio.TimeoutError:
            raise ProtocolError("idle", f"no config came within {self._limits.config_s:g} s") from None
        message = parse_text(data) if isinstance(data, str) else None
        if not isinstance(message, Config):
            raise ProtocolError("bad_message", "the first message must be a config; see PROTOCOL.md")
        return message

    async def _take(self, seat: Seat) -> bool:
        """Take the next message; return whether it was the last."""
        data = await self._next_message(seat)
        arrived_s = time.monotonic()
        message = parse_text(data) if isinstance(data, str) else parse_media(data)
        wait_s = self._pace.message(len(data))
        if isinstance(message, End):
            return True
        if isinstance(message, Config):
            raise ProtocolError("bad_message", "a second config; open another connection for another stream")
        if not isinstance(message, Absent):
            wait_s = max(wait_s, self._pace.media(message))
        if wait_s > 0:
            await asyncio.sleep(wait_s)
            arrived_s = time.monotonic()
        await self._service.accept(seat, message, arrived_s)
        return False

    async def _next_message(self, seat: Seat) -> str | bytes:
        """Wait for a message, for a time limit, or for another connection that resumes this stream."""
        left_s = seat.session.started + self._limits.total_s - time.monotonic()
        receiving = asyncio.create_task(_receive(self._websocket))
        leaving = asyncio.create_task(seat.must_leave.wait())
        try:
            await asyncio.wait(
                {receiving, leaving},
                timeout=max(0.0, min(left_s, self._limits.idle_s)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if leaving.done():
                raise ProtocolError("taken_over", TAKEN_OVER)
            is_over = left_s <= 0 or (not receiving.done() and left_s <= self._limits.idle_s)
            if receiving.done() and not is_over:
                return receiving.result()
            await self._service.finish(seat)
            self._send_new(seat)
            await self._deliver()
            if is_over:
                raise ProtocolError("time_limit", f"a stream may last {self._limits.total_s:g} s here; start a new one")
            raise ProtocolError("idle", f"nothing came for {self._limits.idle_s:g} s")
        finally:
            receiving.cancel()
            leaving.cancel()

    async def _deliver(self) -> None:
        """Wait until all is sent: a client that loses the connection before that can resume and get the last finals."""
        try:
            await asyncio.wait_for(self._outbox.emptied(), self._limits.stalled_s)
        except asyncio.TimeoutError:
            raise StalledClientError from None

    async def _catch_up(self, seat: Seat) -> None:
        """Send what was missed, unless another connection resumes the stream meanwhile."""
        sending_missed = asyncio.create_task(self._send_missed(seat))
        leaving = asyncio.create_task(seat.must_leave.wait())
        try:
            await asyncio.wait({sending_missed, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not sending_missed.done():
                raise ProtocolError("taken_over", TAKEN_OVER)
            sending_missed.result()
        finally:
            sending_missed.cancel()
            leaving.cancel()

    async def _send_missed(self, seat: Seat) -> None:
        """Queue each final after the last one is sent: there may be more than the outbox holds."""
        for final in seat.session.finals_from(self._next_segment):
            self._send_final(final)
            await self._outbox.emptied()
        self._send_new(seat)

    def _send_new(self, seat: Seat) -> None:
        """Queue what is new in the session since the last call."""
        session = seat.session
        for final in session.finals_from(self._next_segment):
            self._send_final(final)
        for event in (session.partial, session.status):
            if event is not None and all(event is not sent for sent in self._sent):
                self._outbox.put(event)
        self._sent = (session.partial, session.status)

    def _send_final(self, final: CaptionEvent) -> None:
        self._next_segment = final.segment + 1
        self._outbox.put(final)

    def _refuse(self, error: ProtocolError) -> int:
        self._service.metrics.add("avsr_errors_total", code=error.code)
        log("refused", session=self.number, code=error.code, message=str(error))
        self._outbox.put(ErrorEvent(code=error.code, message=str(error), retry=error.retry))
        return CLOSE_CODES.get(error.code, POLICY_VIOLATION)


async def _receive(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    data: str | bytes = message["bytes"] if text is None else text
    return data


async def _close(websocket: WebSocket, code: int) -> None:
    if websocket.application_state is WebSocketState.CONNECTED:
        with suppress(asyncio.TimeoutError, RuntimeError, WebSocketDisconnect):  # it may have gone already
            await asyncio.wait_for(websocket.close(code), CLOSE_TIMEOUT_S)
