"""A room without devices: what a microphone and a camera would deliver, and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from stand_ins import LampFace, pictures, sound

from avsr.live.captioner import LiveCaptioner
from avsr.live.events import Device, Event
from avsr.live.inbox import Change
from avsr.media import Packet
from avsr.media.capture import Capture, Picture, Sound
from avsr.recognizer import Recognizer
from avsr.types import Caption, FloatArray, Modality, VideoFrame

START_S = 1_000.0
"""The host's clock when everything begins."""
PACKET_SAMPLES = 320
MODALITIES: dict[tuple[Device, ...], Modality] = {("microphone", "camera"): "av", ("microphone",): "audio"}


def captures(duration_s: float, *, rate_hz: float = 25.0, seed: int = 1) -> list[Capture]:
    """Both devices' captures in the order in which they are complete."""
    return captures_of(sound(duration_s, seed), pictures(duration_s, rate_hz, seed + 1))


def captures_of(sound: FloatArray, frames: Iterable[VideoFrame]) -> list[Capture]:
    """Sound at 16 kHz and pictures as two devices would deliver them."""
    samples = (sound * 32768).astype(np.int16)
    heard: list[Capture] = [
        Sound(samples[start : start + PACKET_SAMPLES], 16_000, start / 16_000, START_S + start / 16_000)
        for start in range(0, len(samples), PACKET_SAMPLES)
    ]
    seen: list[Capture] = [Picture(frame.rgb, START_S + frame.pts_us / 1e6) for frame in frames]
    return sorted([*heard, *seen], key=lambda each: each.host_s + (0.02 if isinstance(each, Sound) else 0.0))


class Room:
    """A live captioner, and the time of day."""

    def __init__(
        self,
        engine: Recognizer,
        devices: tuple[Device, ...] = ("microphone", "camera"),
        tap: Callable[[Packet], None] | None = None,
        offset_ms: float | None = 0.0,
    ) -> None:
        self.now_s = START_S
        stream = engine.stream(modality=MODALITIES[devices], patience_s=1.0, landmarker=LampFace())
        self.stream = stream
        self.live = LiveCaptioner(stream, devices, offset_ms=offset_ms, tap=tap, now=lambda: self.now_s)
        self.events: list[Event] = []

    def plug(self, *devices: Device) -> None:
        """Devices are there."""
        for device in devices:
            self.events += self.live.take(Change(device, is_live=True, message=device))

    def unplug(self, device: Device) -> None:
        """A device is gone."""
        self.events += self.live.take(Change(device, is_live=False, message=f"{device} unplugged"))

    def deliver(self, items: Iterable[Capture], late_s: float = 0.0) -> None:
        """Deliver captures as soon as they are complete, and so much later."""
        for item in items:
            length_s = item.duration_s if isinstance(item, Sound) else 0.0
            self.now_s = max(self.now_s, item.host_s + length_s + late_s)
            self.events += self.live.take(item)

    def finals(self) -> list[Caption]:
        """All finals, as if nothing had been timed; ends the stream."""
        self.events += self.live.finish()
        found = [event for event in self.events if isinstance(event, Caption) and event.is_final]
        return [replace(final, latency_ms=None) for final in found]
