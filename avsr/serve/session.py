"""One speaker's stream on the server and its captions; it outlives the connections that feed it."""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from avsr.decode import Hotword
from avsr.errors import ConfigError, InputError, TextError
from avsr.frontend import DEFAULT_PATIENCE_S, SenseTicks
from avsr.lips import Landmarker, OffsetMeter
from avsr.recognizer import Recognizer
from avsr.serve.pictures import FileFrame, encode_jpeg
from avsr.serve.protocol import (
    Absent,
    CaptionEvent,
    Config,
    Done,
    Dropped,
    Picture,
    ProtocolError,
    Received,
    Sound,
    Status,
)
from avsr.stream import Network
from avsr.types import SAMPLE_RATE, TICK_S

MAX_KEPT_FINALS = 1000
"""Kept for a client that resumes: an hour of speech or more."""
MAX_WAITING_BYTES = 32 * 2**20
"""Limit of picture files that wait for their sound; beyond it, they are processed without."""


class Session:
    """A `Stream` and its captions so far.

    ``accept`` and ``finish`` compute in the calling thread, one at a time; their results are ``finals_from``,
    ``partial`` and ``status``. ``on_final`` is called with each final as it is made. ``offset_ms`` is the delay of
    pictures, as far as it is known. ``secret`` lets a client resume; ``number`` is for logs.

    Raises:
        ProtocolError: a setting does not fit the model.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        network: Network,
        config: Config,
        *,
        secret: str,
        number: int,
        max_picture_side: int,
        open_landmarker: Callable[[], Landmarker],
        on_final: Callable[[CaptionEvent], None],
    ) -> None:
        self.secret, self.number, self.config = secret, number, config
        self._on_final = on_final
        self.chunk_ms = config.chunk_ms or recognizer.bundle.config.default_chunk_ms
        is_measured = config.av_offset_ms == "auto" and config.modality == "av"
        self.offset_ms = 0.0 if config.av_offset_ms == "auto" else config.av_offset_ms
        self._meter = OffsetMeter() if is_measured else None
        self._known_from_s, self._offset_before_ms = 0.0, self.offset_ms
        self.received = Received()
        self.partial: CaptionEvent | None = None
        self.status: Status | None = None
        self.started = time.monotonic()
        self._max_picture_side = max_picture_side
        self._finals: deque[CaptionEvent] = deque(maxlen=MAX_KEPT_FINALS)
        self._lock = threading.Lock()
        self._ticks: SenseTicks | None = None
        self._has_heard = self._has_seen = False
        try:
            self._stream = recognizer.stream(
                modality=config.modality,
                chunk_ms=config.chunk_ms,
                hotwords=[Hotword(hotword.phrase, hotword.boost) for hotword in config.hotwords],
                landmarker=None if config.modality == "audio" else open_landmarker(),
                network=network,
            )
        except (ConfigError, TextError) as error:
            raise ProtocolError("bad_config", str(error)) from error
        self._stream.on_ticks = self._see_ticks

    def accept(self, message: Sound | Picture | Absent, arrived_s: float) -> None:
        """Recognise what a message completes; ``arrived_s`` is when it came, by ``time.monotonic``.

        Raises:
            ProtocolError: the message cannot be used.
        """
        with self._lock:
            try:
                self._push(message)
            except ProtocolError:
                raise
            except InputError as error:
                raise ProtocolError("bad_media", str(error)) from error
            self._collect(arrived_s)

    def finish(self) -> Done:
        """Flush the stream, after which the last finals are there."""
        arrived_s = time.monotonic()
        with self._lock:
            self._stream.finish()
            self._collect(arrived_s)
            return Done(duration=self._stream.duration_s, notes=self._stream.notes())

    def close(self) -> None:
        """Release the face tracker."""
        with self._lock:
            self._stream.close()

    @property
    def has_begun(self) -> bool:
        """Whether any media has arrived."""
        return self.received != Received()

    def finals_from(self, segment: int) -> Iterator[CaptionEvent]:
        """Yield the finals from ``segment`` on."""
        return (final for final in list(self._finals) if final.segment >= segment)

    def _push(self, message: Sound | Picture | Absent) -> None:
        received = self.received
        if isinstance(message, Absent):
            is_video = message.sense == "video"
            self._stream.pass_over(message.sense, self._moved_s(message.time) if is_video else message.time)
        elif isinstance(message, Sound):
            self._stream.accept_audio(message.samples, message.sample_rate, message.t_s)
            self.received = received.model_copy(update={"audio": max(received.audio, message.end_s)})
        else:
            time_s = self._moved_s(message.t_s)
            frame = FileFrame(message.data, round(time_s * 1e6), self._max_picture_side)
            if time_s >= 0:  # else it was taken before the first sound
                self._stream.accept(frame)
                while self._num_waiting_bytes() > MAX_WAITING_BYTES:
                    self._stream.pass_over("audio", (self._stream.state.front.next_tick + 1.5) * TICK_S)
            self.received = received.model_copy(update={"video": max(received.video, message.t_s)})

    def _moved_s(self, time_s: float) -> float:
        """Return the stream time of a picture that its client places at ``time_s``."""
        return time_s - self._offset_ms_at(time_s - self._offset_before_ms / 1000) / 1000

    def _offset_ms_at(self, time_s: float) -> float:
        return self.offset_ms if time_s >= self._known_from_s else self._offset_before_ms

    def _num_waiting_bytes(self) -> int:
        parts = self._stream.state.front.pictures
        frames = {id(frame): frame for part in parts for frame in (part.before, part.after)}
        return sum(len(frame.data) for frame in frames.values() if isinstance(frame, FileFrame))

    def _collect(self, arrived_s: float) -> None:
        for caption in self._stream.captions():
            latency_ms = (time.monotonic() - arrived_s) * 1000
            event = CaptionEvent.of(caption, offset_ms=self._offset_ms_at(caption.end_s), latency_ms=latency_ms)
            if caption.is_final:
                self._finals.append(event)
                self.partial = None
                self._on_final(event)
            else:
                self.partial = event
        if self._ticks is not None:
            self.status = self._status(self._ticks, (time.monotonic() - arrived_s) * 1000)
            self._ticks = None

    def _see_ticks(self, ticks: SenseTicks) -> None:
        if self._ticks is None:
            self._has_heard = self._has_seen = False
        self._ticks = ticks
        if self._meter is not None and ticks.start_tick * TICK_S >= self._known_from_s:
            self._meter = self._meter.seen(*ticks.mouth_and_voice())
            if self._meter.late_ms is not None:
                self._correct(self._meter.late_ms, (ticks.start_tick + ticks.num_ticks) * TICK_S)
        self._has_heard |= bool(ticks.heard.any())
        self._has_seen |= bool(ticks.visible.any())

    def _correct(self, late_ms: int, reached_s: float) -> None:
        """Move pictures by ``late_ms`` more, from a stream time on at which none can have arrived yet.

        Sound is recognised up to ``reached_s``, and pictures may be ahead of it by the patience of the stream.
        """
        self._known_from_s, self._offset_before_ms = reached_s + DEFAULT_PATIENCE_S, self.offset_ms
        self.offset_ms += late_ms
        self._meter = OffsetMeter()

    def _status(self, ticks: SenseTicks, lag_ms: float) -> Status:
        state, lips = self._stream.state, None
        if self.config.preview and ticks.lips[-1].visible:
            lips = base64.b64encode(encode_jpeg(ticks.lips[-1].gray)).decode()
        weights = state.captioner.audio_weight
        return Status(
            time=self._stream.duration_s,
            heard=self._has_heard,
            face=self._has_seen,
            audio_weight=float(weights[-1]) if len(weights) else None,
            lips=lips,
            dropped=Dropped(
                audio_s=state.front.audio.dropped_samples / SAMPLE_RATE, pictures=state.front.video.dropped_frames
            ),
            lag_ms=lag_ms,
        )
