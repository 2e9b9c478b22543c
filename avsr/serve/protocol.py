"""What travels over the websocket; `PROTOCOL.md` says it in words.

Bytes and text from outside are parsed here to messages, or raise `ProtocolError` and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from avsr.errors import InputError
from avsr.types import Caption, Modality, Sense, Word

VERSION = 1
"""Of the protocol."""
MAX_TEXT_CHARS = 64 * 1024
"""Longest text message: a config with all the hotwords that are allowed fits easily."""
MAX_TIME_S = 1e7
"""No stream lasts so long (115 days); times beyond are a client's mistake."""
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
MAX_PACKET_S = 5.0
"""Longest packet of sound: what takes long to recognise must come in pieces."""

S16_TAG, F32_TAG, PICTURE_TAG = 1, 2, 3
_SOUND_HEADER = struct.Struct("<BdI")
_PICTURE_HEADER = struct.Struct("<Bd")
_SAMPLE_TYPES: dict[int, npt.DTypeLike] = {S16_TAG: "<i2", F32_TAG: "<f4"}

ErrorCode = Literal[
    "bad_message",
    "bad_media",
    "bad_config",
    "unauthorised",
    "unknown_session",
    "busy",
    "idle",
    "time_limit",
    "taken_over",
    "internal",
]
CLOSE_CODES: dict[ErrorCode, int] = {"bad_message": 1007, "bad_media": 1007, "busy": 1013, "internal": 1011}
"""Of the websocket, by error; 1008, against the rules, for all others."""


class ProtocolError(InputError):
    """A message that breaks the protocol or a rule of the server; ``code`` is told to the client."""

    def __init__(self, code: ErrorCode, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.retry = retry


class Message(BaseModel):
    """A JSON message: frozen, and strict about types. Unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Event(BaseModel):
    """What the server says: unknown fields, which a later version may add, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


# ── from the client ──


class HotwordSetting(Message):
    """See `avsr.Hotword`."""

    phrase: Annotated[str, Field(min_length=1, max_length=100)]
    boost: Annotated[float, Field(ge=0, le=100)] = 4.0


class Resume(Message):
    """Go on with a stream; ``next_segment`` is the first segment whose final has not arrived."""

    session: Annotated[str, Field(max_length=100)]
    next_segment: Annotated[int, Field(ge=0)] = 0


class Config(Message):
    """The first message of a connection."""

    type: Literal["config"] = "config"
    version: int = VERSION
    token: Annotated[str, Field(max_length=1000)] | None = None
    modality: Modality = "av"
    chunk_ms: Annotated[int, Field(gt=0)] | None = None
    hotwords: Annotated[tuple[HotwordSetting, ...], Field(max_length=100)] = ()
    av_offset_ms: Annotated[float, Field(ge=-2000, le=2000)] | Literal["auto"] = 0.0
    preview: bool = False
    resume: Resume | None = None


class Absent(Message):
    """``sense`` will deliver nothing before ``time``: do not wait for it."""

    type: Literal["absent"] = "absent"
    sense: Sense
    time: Annotated[float, Field(ge=0, le=MAX_TIME_S)]


class End(Message):
    """Nothing more will come."""

    type: Literal["end"] = "end"


@dataclass(frozen=True, slots=True)
class Sound:
    """``samples`` (n,) i16 or f32, the first of them at ``t_s``."""

    samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    sample_rate: int
    t_s: float

    @property
    def end_s(self) -> float:
        """When the last sample ends."""
        return self.t_s + len(self.samples) / self.sample_rate

    @property
    def num_bytes(self) -> int:
        """What it takes up."""
        return self.samples.nbytes


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole image file, not looked into yet, taken at ``t_s``."""

    data: bytes
    t_s: float

    @property
    def end_s(self) -> float:
        """A moment has no length."""
        return self.t_s

    @property
    def num_bytes(self) -> int:
        """What it takes up."""
        return len(self.data)


ClientText = Config | Absent | End
_CLIENT_TEXT: TypeAdapter[ClientText] = TypeAdapter(Annotated[ClientText, Field(discriminator="type")])


def parse_text(text: str) -> ClientText:
    """Read a JSON message of the client.

    Raises:
        ProtocolError: it is none.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise ProtocolError("bad_message", f"a text message of {len(text)} characters; the limit is {MAX_TEXT_CHARS}")
    try:
        return _CLIENT_TEXT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise ProtocolError("bad_message", f"{where}: {first['msg']}; see PROTOCOL.md") from None


def parse_media(data: bytes) -> Sound | Picture:
    """Read a binary message of the client.

    Raises:
        ProtocolError: it is none.
    """
    tag = data[0] if data else None
    if tag == PICTURE_TAG:
        if len(data) <= _PICTURE_HEADER.size:
            raise ProtocolError("bad_message", f"a picture of {len(data)} bytes ends within its header")
        return Picture(data[_PICTURE_HEADER.size :], _checked_time(_PICTURE_HEADER.unpack_from(data)[1]))
    if tag not in _SAMPLE_TYPES:
        raise ProtocolError("bad_message", f"a binary message has the tag {tag}; use 1 or 2 for sound, 3 for a picture")
    if len(data) <= _SOUND_HEADER.size:
        raise ProtocolError("bad_message", f"a packet of sound of {len(data)} bytes ends within its header")
    _, t_s, sample_rate = _SOUND_HEADER.unpack_from(data)
    sample_type = np.dtype(_SAMPLE_TYPES[tag])
    num_bytes = len(data) - _SOUND_HEADER.size
    if num_bytes % sample_type.itemsize:
        raise ProtocolError("bad_message", f"{num_bytes} bytes of sound are no whole number of samples")
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        raise ProtocolError(
            "bad_media", f"sound of {sample_rate} Hz; from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz can be used"
        )
    samples = np.frombuffer(data, sample_type, offset=_SOUND_HEADER.size)
    if len(samples) > MAX_PACKET_S * sample_rate:
        raise ProtocolError(
            "bad_message",
            f"a packet holds {len(samples) / sample_rate:.1f} s of sound; the limit is {MAX_PACKET_S:g} s",
        )
    return Sound(samples.astype(sample_type.newbyteorder("=")), sample_rate, _checked_time(t_s))


def pack_sound(sound: Sound) -> bytes:
    """Return the binary message of ``sound``."""
    tag = S16_TAG if sound.samples.dtype == np.int16 else F32_TAG
    return _SOUND_HEADER.pack(tag, sound.t_s, sound.sample_rate) + sound.samples.astype(_SAMPLE_TYPES[tag]).tobytes()


def pack_picture(picture: Picture) -> bytes:
    """Return the binary message of ``picture``."""
    return _PICTURE_HEADER.pack(PICTURE_TAG, picture.t_s) + picture.data


def _checked_time(t_s: float) -> float:
    if not 0 <= t_s <= MAX_TIME_S:  # NaN is neither
        raise ProtocolError(
            "bad_message",
            f"a media message has the time {t_s}; give seconds since the start, from 0 to {MAX_TIME_S:.0f}",
        )
    return t_s


# ── from the server ──


class Received(Event):
    """Up to which time each sense has arrived, seconds."""

    audio: float = 0.0
    video: float = 0.0


class StatedLimits(Event):
    """What a client needs to know of the server's limits."""

    max_message_bytes: int
    max_picture_side: int
    max_speed: float
    idle_s: float
    total_s: float
    resume_s: float


class Ready(Event):
    """The answer to `Config`."""

    type: Literal["ready"] = "ready"
    session: str
    model: str
    version: str
    modality: Modality
    chunk_ms: int
    resumed: bool
    received: Received
    limits: StatedLimits


class SpokenWord(Event):
    """See `avsr.Word`."""

    text: str
    start: float
    end: float
    confidence: float


class BothSenses(Event):
    """How a segment was perceived."""

    audio_weight: float
    face_visible: float
    offset_ms: float


class CaptionEvent(Event):
    """See `avsr.Caption`."""

    type: Literal["partial", "final"]
    segment: int
    revision: int
    start: float
    end: float
    text: str
    stable_chars: int
    words: tuple[SpokenWord, ...]
    av: BothSenses
    latency_ms: float | None = None

    @classmethod
    def of(cls, caption: Caption, *, offset_ms: float, latency_ms: float | None) -> CaptionEvent:
        """Put ``caption`` into words."""
        return cls(
            type="final" if caption.is_final else "partial",
            segment=caption.segment,
            revision=caption.revision,
            start=caption.start_s,
            end=caption.end_s,
            text=caption.text,
            stable_chars=caption.stable_chars,
            words=tuple(
                SpokenWord(text=word.text, start=word.start_s, end=word.end_s, confidence=word.confidence)
                for word in caption.words
            ),
            av=BothSenses(audio_weight=caption.audio_weight, face_visible=caption.face_visible, offset_ms=offset_ms),
            latency_ms=latency_ms,
        )

    def caption(self) -> Caption:
        """Return the caption that this tells of."""
        return Caption(
            segment=self.segment,
            revision=self.revision,
            is_final=self.type == "final",
            words=tuple(Word(word.text, word.start, word.end, word.confidence) for word in self.words),
            stable_chars=self.stable_chars,
            start_s=self.start,
            end_s=self.end,
            audio_weight=self.av.audio_weight,
            face_visible=self.av.face_visible,
            latency_ms=self.latency_ms,
        )


class Dropped(Event):
    """What came too late or twice, since the start."""

    audio_s: float
    pictures: int


class Status(Event):
    """What the engine perceives just now."""

    type: Literal["status"] = "status"
    time: float
    heard: bool
    face: bool
    audio_weight: float | None
    lips: str | None
    dropped: Dropped
    lag_ms: float


class ErrorEvent(Event):
    """The end of a connection that went wrong."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    retry: bool = False


class Done(Event):
    """The end of a stream."""

    type: Literal["done"] = "done"
    duration: float
    notes: tuple[str, ...] = ()


AnyEvent = Ready | CaptionEvent | Status | ErrorEvent | Done
_SERVER_TEXT: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])


def parse_event(text: str | bytes) -> AnyEvent | None:
    """Read an event of the server; None where it is of a type that only later versions know.

    Raises:
        InputError: it is none.
    """
    try:
        return _SERVER_TEXT.validate_json(text)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] == "union_tag_invalid":
            return None
        raise InputError(f"the server sent an invalid event: {error}") from error
