"""All streams of one server: opening, resuming and closing them."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from avsr.lips import Landmarker, LateFaceMesh
from avsr.recognizer import Recognizer
from avsr.serve.batcher import BatchedNetwork
from avsr.serve.limits import Limits
from avsr.serve.logs import log
from avsr.serve.metrics import Metrics
from avsr.serve.protocol import (
    VERSION,
    Absent,
    CaptionEvent,
    Config,
    Done,
    Picture,
    ProtocolError,
    Ready,
    Resume,
    Sound,
)
from avsr.serve.session import Session

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(eq=False)
class Seat:
    """A session's place in the server, taken by one connection at a time.

    ``must_leave`` tells the connection that another one resumes the stream; ``is_free`` is set when it has left.
    """

    session: Session
    must_leave: asyncio.Event = field(default_factory=asyncio.Event)
    is_free: asyncio.Event = field(default_factory=asyncio.Event)
    expiry: asyncio.TimerHandle | None = None


class Service:
    """The streams of one event loop, which it never blocks: they compute in threads, at most one a stream."""

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits,
        *,
        token: str | None = None,
        logs_text: bool = False,
        open_landmarker: Callable[[], Landmarker] = LateFaceMesh,
    ) -> None:
        self.recognizer, self.limits = recognizer, limits
        self.metrics = Metrics(
            {"avsr_sessions": lambda: self.num_sessions, "avsr_sessions_max": lambda: limits.max_sessions}
        )
        self._token, self._logs_text, self._open_landmarker = token, logs_text, open_landmarker
        self.num_connections = 0
        """Websockets that are open, whether they have a stream or not."""
        self._seats: dict[str, Seat] = {}
        self._num_opening = 0
        self._num_opened = 0
        self._network = BatchedNetwork(recognizer.traced, limits.max_sessions, self._count_batch)
        self._threads = ThreadPoolExecutor(limits.max_sessions + 1, thread_name_prefix="avsr-stream")

    @property
    def num_sessions(self) -> int:
        """Streams that are open, or about to be."""
        return len(self._seats) + self._num_opening

    @property
    def is_healthy(self) -> bool:
        """Whether streams can be recognised."""
        return self._network.is_alive

    def is_authorised(self, token: str | None) -> bool:
        """Whether a client with ``token`` may use this server."""
        return self._token is None or hmac.compare_digest(self._token.encode(), (token or "").encode())

    async def enter(self, config: Config) -> Seat:
        """Open the stream that ``config`` asks for, or the one that it resumes.

        Raises:
            ProtocolError: the client may not, or the server cannot.
        """
        if config.version != VERSION:
            raise ProtocolError(
                "bad_message", f"version {config.version} of the protocol; this server speaks {VERSION}"
            )
        if not self.is_authorised(config.token):
            raise ProtocolError("unauthorised", "the token is missing or wrong; ask whoever runs this server for it")
        return await (self._resume(config.resume) if config.resume else self._open(config))

    def leave(self, seat: Seat, *, keep: bool) -> None:
        """Free ``seat``; its stream is kept for a while if the client may come back to it."""
        seat.is_free.set()
        if not keep or not seat.session.has_begun:
            self._close(seat)
        else:
            seat.expiry = asyncio.get_running_loop().call_later(self.limits.resume_s, self._close, seat)

    async def accept(self, seat: Seat, message: Sound | Picture | Absent, arrived_s: float) -> None:
        """Have ``message`` recognised; see `Session.accept`."""
        if isinstance(message, Sound):
            self.metrics.add("avsr_audio_seconds_total", len(message.samples) / message.sample_rate)
        elif isinstance(message, Picture):
            self.metrics.add("avsr_pictures_total")
        await self._compute(seat.session.accept, message, arrived_s)

    async def finish(self, seat: Seat) -> Done:
        """Flush the stream."""
        return await self._compute(seat.session.finish)

    def ready(self, seat: Seat, *, resumed: bool) -> Ready:
        """Return the answer to the client of ``seat``."""
        session, bundle = seat.session, self.recognizer.bundle.config
        return Ready(
            session=session.secret,
            model=bundle.name,
            version=bundle.version,
            modality=session.config.modality,
            chunk_ms=session.chunk_ms,
            resumed=resumed,
            received=session.received,
            limits=self.limits.stated(),
        )

    async def close(self) -> None:
        """End all streams."""
        for seat in list(self._seats.values()):
            self._close(seat)
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._network.close()

    async def _open(self, config: Config) -> Seat:
        if self._is_full and not self._waiting_seats():
            raise self._busy()
        self._num_opening += 1
        self._num_opened += 1
        try:
            session = await self._compute(self._new_session, config, self._num_opened)
        finally:
            self._num_opening -= 1
        if self._is_full and not self._make_room():  # somebody came back meanwhile
            self._threads.submit(session.close)
            raise self._busy()
        seat = self._seats[session.secret] = Seat(session)
        self.metrics.add("avsr_sessions_total")
        log("session_opened", session=session.number, modality=config.modality, chunk_ms=session.chunk_ms)
        return seat

    def _new_session(self, config: Config, number: int) -> Session:
        return Session(
            self.recognizer,
            self._network,
            config,
            secret=secrets.token_urlsafe(16),
            number=number,
            max_picture_side=self.limits.max_picture_side,
            open_landmarker=self._open_landmarker,
            on_final=partial(self._count_final, number),
        )

    async def _resume(self, resume: Resume) -> Seat:
        seat = self._seats.get(resume.session)
        while seat is not None and not seat.is_free.is_set():  # a connection is lost on the client's side first
            seat.must_leave.set()
            await seat.is_free.wait()
            seat = self._seats.get(resume.session)
        if seat is None:
            raise ProtocolError("unknown_session", "unknown or expired session; start a new stream")
        if seat.expiry is not None:
            seat.expiry.cancel()
        again = self._seats[resume.session] = Seat(seat.session)
        self.metrics.add("avsr_resumed_total")
        log("session_resumed", session=seat.session.number)
        return again

    def _make_room(self) -> bool:
        """Give up the stream that has been without a connection for longest; return whether there was one."""
        waiting = self._waiting_seats()
        if not waiting:
            return False
        self._close(min(waiting, key=lambda seat: seat.expiry.when() if seat.expiry else 0.0))
        return True

    @property
    def _is_full(self) -> bool:
        return self.num_sessions >= self.limits.max_sessions

    def _waiting_seats(self) -> list[Seat]:
        """Return those of streams without a connection."""
        return [seat for seat in self._seats.values() if seat.is_free.is_set()]

    def _busy(self) -> ProtocolError:
        return ProtocolError(
            "busy",
            f"all {self.limits.max_sessions} streams that this server holds are in use; try again later",
            retry=True,
        )

    def _close(self, seat: Seat) -> None:
        if seat.expiry is not None:
            seat.expiry.cancel()
        if self._seats.pop(seat.session.secret, None) is not None:
            self._threads.submit(seat.session.close)
            received = seat.session.received
            log("session_closed", session=seat.session.number, audio_s=received.audio, video_s=received.video)

    async def _compute(self, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Work in a thread. If cancelled, wait for it all the same, so that nobody else uses the stream meanwhile."""
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._threads, partial(work, *arguments, **options))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            (outcome,) = await asyncio.gather(working, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome from None  # a stream that failed is not to be kept
            raise

    def _count_final(self, number: int, final: CaptionEvent) -> None:
        self.metrics.add("avsr_finals_total")
        self.metrics.add("avsr_latency_seconds_sum", (final.latency_ms or 0.0) / 1000)
        if self._logs_text:
            log("final", session=number, text=final.text)

    def _count_batch(self, num_streams: int) -> None:
        self.metrics.add("avsr_batches_total")
        self.metrics.add("avsr_batched_chunks_total", num_streams)
