"""The events of a live session, and their form in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from avsr.captions.files import word_values
from avsr.types import Caption, Modality

Device = Literal["microphone", "camera"]
State = Literal["live", "muted", "no_face", "covered", "lost"]


@dataclass(frozen=True, slots=True)
class Status:
    """A device's state has changed, at ``at_s`` of the stream; ``message`` is for people."""

    device: Device
    state: State
    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Another message for people: an offset was measured, something was dropped."""

    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The first event: the model is loaded, the devices are being opened."""

    model: str
    version: str
    modality: Modality
    chunk_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last event: ``duration_s`` were recognised; ``notes``, for people, as `Stream.notes`."""

    duration_s: float
    notes: tuple[str, ...]


Event = Ready | Caption | Status | Notice | Done


def as_json(event: Event, offset_ms: float) -> dict[str, Any]:
    """Return an event as plain values: ``type`` is ready, partial, final, status, notice or done; times in seconds."""
    if isinstance(event, Ready):
        return {"type": "ready", **asdict(event)}
    if isinstance(event, Done):
        return {"type": "done", "duration": round(event.duration_s, 3), "notes": list(event.notes)}
    if isinstance(event, Status):
        values = {"device": event.device, "state": event.state, "message": event.message, "at": round(event.at_s, 3)}
        return {"type": "status", **values}
    if isinstance(event, Notice):
        return {"type": "notice", "message": event.message, "at": round(event.at_s, 3)}
    return {
        "type": "final" if event.is_final else "partial",
        "segment": event.segment,
        "revision": event.revision,
        "start": round(event.start_s, 3),
        "end": round(event.end_s, 3),
        "text": event.text,
        "stable_chars": event.stable_chars,
        "words": [word_values(word) for word in event.words],
        "av": {
            "audio_weight": round(event.audio_weight, 4),
            "face_visible": round(event.face_visible, 4),
            "offset_ms": offset_ms,
        },
        "latency_ms": None if event.latency_ms is None else round(event.latency_ms, 1),
    }
