"""A client: plays media through a server and passes on its events."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.uri import parse_uri

from avsr.errors import AvsrError, InputError
from avsr.media import Packet, to_mono
from avsr.media.naming import without_password
from avsr.media.thread import in_thread
from avsr.serve.pictures import encode_png
from avsr.serve.protocol import (
    MAX_PACKET_S,
    AnyEvent,
    CaptionEvent,
    Config,
    Done,
    End,
    ErrorEvent,
    Picture,
    Ready,
    Received,
    Resume,
    Sound,
    Status,
    pack_picture,
    pack_sound,
    parse_event,
)
from avsr.types import VideoFrame

MAX_RETRIES = 9
"""Attempts in a row to reconnect: they take about 30 s, in which a server can be restarted."""
MAX_KEPT_BYTES = 256 * 2**20
"""Limit of the media kept for sending again, until they are covered by a final."""
PONG_S = 600.0
"""How long a server may take to answer a ping, which queues behind all media that it has not read yet."""
READ_S = 1.0
"""After the end, how long to wait for a packet that is being read: from a pipe it may never come."""
ROUNDING_S = 1e-6
LEAD_S = 1.0
"""A new stream in place of a lost one begins this long before the lost words: recognition needs context."""


class _TryAgainError(Exception):
    """The server refuses, but not for good."""


class _ListenerError(Exception):
    """Wraps what ``on_event`` raised, so that its OSErrors are not taken for errors of the connection."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Base:
    """Offsets of the server's current stream within the client's: it may not be the first, if a server lost one.

    ``revision`` captions of ``segment`` were delivered before, the last of which withdrew the others.
    """

    time_s: float = 0.0
    segment: int = 0
    revision: int = 0

    def placed(self, event: AnyEvent) -> AnyEvent:
        """Return an event with the times and the segment of the client's stream."""
        time_s = self.time_s
        if isinstance(event, CaptionEvent):
            words = tuple(
                word.model_copy(update={"start": word.start + time_s, "end": word.end + time_s}) for word in event.words
            )
            return event.model_copy(
                update={
                    "start": event.start + time_s,
                    "end": event.end + time_s,
                    "words": words,
                    "segment": event.segment + self.segment,
                    "revision": event.revision + (self.revision if event.segment == 0 else 0),
                }
            )
        if isinstance(event, Status):
            return event.model_copy(update={"time": event.time + time_s})
        if isinstance(event, Done):
            return event.model_copy(update={"duration": event.duration + time_s})
        if isinstance(event, Ready):
            received = Received(audio=event.received.audio + time_s, video=event.received.video + time_s)
            return event.model_copy(update={"received": received})
        return event


class Client:
    """Sends one stream to ``url`` and calls ``on_event`` with every event, with each final once.

    ``in_real_time`` sends each packet when its time has come; otherwise the server sets the pace. A lost connection is
    resumed. If the server lost the stream, by a restart, or ended it as too long or idle, a new stream continues after
    the last final; its events get the times and segment numbers of the first. Sound is sent as f32 and pictures as PNG,
    which are lossless.

    Raises:
        InputError: ``url`` is no address of a websocket.
    """

    def __init__(self, url: str, on_event: Callable[[AnyEvent], None], *, in_real_time: bool = False) -> None:
        _check_address(url)
        self._url, self._on_event, self._in_real_time = url, on_event, in_real_time
        self._name = without_password(url)
        self._ready: Ready | None = None
        self._has_begun = False
        self._done: Done | None = None
        self._next_segment = 0
        self._base = _Base()
        self._final_end_s = 0.0
        self._partial: CaptionEvent | None = None
        self._has_paused = False
        self._forgotten: tuple[float, float] | None = None  # from when to when what may be missed is not kept
        self._missed_s = 0.0
        self._kept: deque[Sound | Picture] = deque()
        self._pulling: asyncio.Future[Sound | Picture | None] | None = None
        self._begun_s = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the stream in order after what was sent. May be called from signal handlers and other threads."""
        if self._loop is None or self._loop.is_closed():
            self._stopping.set()
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def is_reading(self) -> bool:
        """Whether a thread still reads the next packet after `stop`, so that its source must not be closed."""
        return self._pulling is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings of the client itself, beside those of the server."""
        if not self._missed_s:
            return ()
        return (
            f"{self._missed_s:.1f} s have no captions: the server was restarted, and their media no longer buffered",
        )

    async def send(self, packets: Iterable[Packet], config: Config) -> Done:
        """Send all ``packets``, in the order of their times; return how the stream ended.

        Raises:
            AvsrError: the server cannot be reached or refuses, or the connection is lost for good.
            Exception: whatever ``on_event`` raised.
        """
        self._loop = asyncio.get_running_loop()
        try:
            return await self._send(messages(packets), config)
        except _ListenerError as wrapped:
            raise wrapped.error from None
        finally:
            if self._pulling is not None:
                await asyncio.wait({self._pulling}, timeout=READ_S)
                if self._pulling.done():
                    self._pulling.exception()  # retrieved, or asyncio would log it
                    self._pulling = None
                else:
                    self._pulling.cancel()  # only the wait for it: the thread goes on

    async def _send(self, outgoing: Iterator[Sound | Picture], config: Config) -> Done:
        num_tries = 0
        while True:
            if self._has_paused:
                await self._wait_for_more(outgoing)
                self._has_paused = False
            progress = self._next_segment, self._base
            try:
                # No proxy: media go to the named server only.
                async with connect(
                    self._url, max_size=None, compression=None, ping_timeout=PONG_S, proxy=None
                ) as socket:
                    await self._run_connection(socket, config, outgoing)
            except (ConnectionClosed, _TryAgainError) as error:
                problem = f"the connection to {self._name} was lost: {error}"
            except ssl.SSLCertVerificationError as error:
                problem = (
                    f"the certificate of {self._name} is not trusted: {error.verify_message}; where it is the right "
                    "one, give the file that holds it as SSL_CERT_FILE"
                )
            except (InvalidHandshake, ssl.SSLError) as error:
                problem = (
                    f"{self._name} answers, but not as a server of captions: {error}; the address of `avsr serve` is "
                    "ws://HOST:PORT/ws, or wss://HOST:PORT/ws where it has a certificate"
                )
            except (InvalidURI, UnicodeError, OSError, TimeoutError, asyncio.TimeoutError) as error:
                problem = f"no server of captions answers at {self._name}: {error}; start one with `avsr serve`"
            if self._done is not None:
                return self._done
            num_tries = num_tries + 1 if (self._next_segment, self._base) == progress else 1
            if not self._has_begun or num_tries > MAX_RETRIES:
                raise AvsrError(problem)
            await asyncio.sleep(min(0.25 * 2**num_tries, 5.0))

    async def _run_connection(
        self, socket: ClientConnection, config: Config, outgoing: Iterator[Sound | Picture]
    ) -> None:
        """Hold one connection until the stream is done; raises ConnectionClosed when it is lost."""
        if self._ready is not None:
            resume = Resume(session=self._ready.session, next_segment=self._next_segment - self._base.segment)
            config = config.model_copy(update={"resume": resume})
        await socket.send(config.model_dump_json(exclude_none=True))
        self._take(await socket.recv())
        sending = asyncio.create_task(self._send_media(socket, outgoing))
        listening = asyncio.create_task(self._listen(socket))
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not isinstance(sending.exception(), ConnectionClosed):
                sending.result()
            await listening  # where the connection was closed, an error event may say why
        except (asyncio.CancelledError, KeyboardInterrupt):
            socket.transport.abort()  # to close in order would wait for a server that may not read any more
            raise
        finally:
            for task in (sending, listening):
                task.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)

    async def _listen(self, socket: ClientConnection) -> None:
        while self._done is None:
            self._take(await socket.recv())

    def _take(self, text: str | bytes) -> None:
        event = parse_event(text)
        if event is None:
            return
        if isinstance(event, ErrorEvent):
            self._handle_error(event)
        event = self._base.placed(event)
        if isinstance(event, Ready):
            self._ready, self._has_begun = event, True
        elif isinstance(event, Done):
            self._done = event
        elif isinstance(event, CaptionEvent):
            self._partial = None if event.type == "final" else event
            if event.type == "final":
                self._next_segment, self._final_end_s = event.segment + 1, max(self._final_end_s, event.end)
        elif isinstance(event, Status):
            spoken = self._partial if self._partial and self._partial.words else None
            begun_s = min(event.time, spoken.start) if spoken else event.time
            self._forget_before(max(self._final_end_s, begun_s - LEAD_S))
        self._deliver(event)

    def _deliver(self, event: AnyEvent) -> None:
        try:
            self._on_event(event)
        except Exception as error:
            raise _ListenerError(error) from error

    def _handle_error(self, event: ErrorEvent) -> None:
        """Raise `_TryAgainError` if a new stream or a later attempt may work, else AvsrError."""
        if self._has_begun and event.code in ("unknown_session", "time_limit", "idle"):
            first_s = self._kept[0].t_s if self._kept else self._final_end_s
            self._has_paused = event.code == "idle"
            if self._forgotten is not None:
                begun_s, ended_s = self._forgotten
                self._missed_s += max(0.0, ended_s - max(begun_s, self._final_end_s))
                self._forgotten = None
            self._base = _Base(max(self._final_end_s, first_s), self._next_segment, self._withdraw_partial())
            self._ready = None
            raise _TryAgainError(event.message)
        if self._has_begun and event.retry:
            raise _TryAgainError(event.message)
        raise AvsrError(f"{self._name}: {event.message}")

    def _withdraw_partial(self) -> int:
        """Withdraw the last partial, if there is one; return the number of captions that its segment has had."""
        partial, self._partial = self._partial, None
        if partial is None:
            return self._base.revision if self._base.segment == self._next_segment else 0
        if partial.words:
            update = {"revision": partial.revision + 1, "text": "", "stable_chars": 0, "words": ()}
            partial = partial.model_copy(update=update)
            self._deliver(partial)
        return partial.revision + 1

    async def _send_media(self, socket: ClientConnection, outgoing: Iterator[Sound | Picture]) -> None:
        received = self._ready.received if self._ready else Received()
        for kept in list(self._kept):
            if not has_arrived(kept, received):
                await self._send_one(socket, kept)
        while (message := await self._pull(outgoing)) is not None:
            self._kept.append(message)
            await self._send_one(socket, message)
        await socket.send(End().model_dump_json())

    async def _pull(self, outgoing: Iterator[Sound | Picture]) -> Sound | Picture | None:
        """Return the next message; None when the stream is at its end, or was stopped."""
        await self._wait_for_more(outgoing)
        if self.is_stopped or self._pulling is None:
            return None
        pulled, self._pulling = self._pulling, None
        return pulled.result()

    async def _wait_for_more(self, outgoing: Iterator[Sound | Picture]) -> None:
        """Read the next message in a thread; if the connection is lost meanwhile, it is kept for the next one."""
        if self._pulling is None:
            self._pulling = asyncio.wrap_future(in_thread(lambda: next(outgoing, None)))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            either: set[asyncio.Future[Any]] = {self._pulling, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _send_one(self, socket: ClientConnection, message: Sound | Picture) -> None:
        if self._in_real_time:
            await asyncio.sleep(self._begun_s + message.t_s - time.monotonic())
        if (left := after(message, self._base.time_s)) is not None:
            left = replace(left, t_s=left.t_s - self._base.time_s)
            await socket.send(pack_sound(left) if isinstance(left, Sound) else pack_picture(left))

    def _forget_before(self, time_s: float) -> None:
        """Drop kept media that end before ``time_s``, and the oldest of what exceeds `MAX_KEPT_BYTES`."""
        while self._kept and self._kept[0].end_s <= time_s:
            self._kept.popleft()
        if self._forgotten is not None:
            begun_s, ended_s = self._forgotten
            self._forgotten = (max(begun_s, time_s), ended_s) if time_s < ended_s else None
        num_bytes = 0
        for num_kept, message in enumerate(reversed(self._kept)):
            num_bytes += message.num_bytes
            if num_bytes > MAX_KEPT_BYTES:
                begun_s = self._kept[0].t_s if self._forgotten is None else self._forgotten[0]
                self._forgotten = begun_s, self._kept[-num_kept - 1].end_s
                self._kept = deque(list(self._kept)[-num_kept:])
                return


def messages(packets: Iterable[Packet]) -> Iterator[Sound | Picture]:
    """Convert packets of the media layer to messages, without loss."""
    next_sound_s = 0.0
    for packet in packets:
        if isinstance(packet, VideoFrame):
            yield Picture(encode_png(packet.rgb), packet.pts_us / 1e6)
            continue
        samples, rate = to_mono(packet.samples), packet.sample_rate
        begin_s = next_sound_s if packet.t_s is None else packet.t_s
        longest = int(MAX_PACKET_S * rate)
        for start in range(0, len(samples), longest):
            yield Sound(samples[start : start + longest], rate, begin_s + start / rate)
        next_sound_s = begin_s + len(samples) / rate


def _check_address(url: str) -> None:
    try:
        parse_uri(url)
    except (InvalidURI, ValueError) as error:
        problem = error.msg if isinstance(error, InvalidURI) else str(error)
        name = without_password(url)
        raise InputError(
            f"{name!r} is not a websocket address: {problem}; give one like ws://127.0.0.1:8765/ws"
        ) from error


def has_arrived(message: Sound | Picture, received: Received) -> bool:
    """Whether the server has confirmed this message; its times are sums of others, and may be rounded differently."""
    if isinstance(message, Sound):
        return message.end_s <= received.audio + ROUNDING_S
    return message.t_s <= received.video + ROUNDING_S


def after(message: Sound | Picture, time_s: float) -> Sound | Picture | None:
    """Return what of a message is from ``time_s`` on."""
    if message.t_s >= time_s:
        return message
    if isinstance(message, Picture) or message.end_s <= time_s:
        return None
    num_before = math.ceil((time_s - message.t_s) * message.sample_rate)
    rest = message.samples[num_before:]
    return replace(message, samples=rest, t_s=message.t_s + num_before / message.sample_rate) if len(rest) else None
