"""The body of the live loop: takes what the devices deliver, one by one, and returns events. It starts no threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from avsr.lips import OffsetMeter
from avsr.live.clock import Clock
from avsr.live.events import Device, Done, Event, Notice, State, Status
from avsr.live.figures import Figures, PictureRate
from avsr.live.inbox import Change
from avsr.media import AudioPacket, Packet
from avsr.media.capture import Capture, Picture, Sound
from avsr.types import TICK_S, Sense, VideoFrame

if TYPE_CHECKING:
    from avsr.frontend import SenseTicks
    from avsr.stream import Stream

GRACE_S = 1.5
"""The stream begins when every device has delivered something, or this long after the first one has."""
STALL_S = 1.0
"""A device that delivers nothing for this long is no longer waited for."""
MAX_EARLY_PICTURES = 8
"""Pictures kept before the stream begins."""
DARK_LEVEL = 16
"""A picture whose mean is below this (of 255) may come from a covered lens."""
STRIDES = ((0.5, 1), (1.0, 2), (2.0, 4))
"""(seconds, n): while the sound being processed is up to that old, every n-th picture is used; beyond the last, none.

So a machine that is too slow sheds pictures before it loses sound.
"""
FEW_PICTURES_HZ = 12.0
"""From fewer pictures a second the default model reads lips markedly worse (`benchmarks/poor_devices.py`)."""
NOTICEABLE_S = 0.1
"""Lost sound is reported once it amounts to this, and again after this much more."""
TELL_EVERY_S = 1.0
"""Least time between two such reports."""
SENSES: dict[Device, Sense] = {"microphone": "audio", "camera": "video"}


@dataclass(slots=True)
class _Sight:
    """What is known of one device."""

    is_live: bool = False
    seen_s: float = float("-inf")
    state: State | None = None


class LiveCaptioner:
    """Devices' captures in, events out.

    ``devices`` are those in use; the stream was opened for the senses they serve. ``offset_ms`` is how late pictures
    come, None to measure it. ``tap`` is called with every packet that the stream is given. ``now`` is the host's clock.
    """

    def __init__(
        self,
        stream: Stream,
        devices: tuple[Device, ...],
        *,
        offset_ms: float | None = None,
        tap: Callable[[Packet], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.figures = Figures()
        self._chunk_work_s = 0.0
        self.offset_ms = offset_ms or 0.0
        self.latest: SenseTicks | None = None
        """The newest chunk, for meters."""
        self._stream, self._tap, self._now = stream, tap, now
        self._sights: dict[Device, _Sight] = {device: _Sight() for device in devices}
        self._clock: Clock | None = None
        self._early: list[Capture] = []
        self._first_s: float | None = None
        self._reached_s = float("-inf")
        """The host's time up to which everything was taken; earlier than now while captures wait in the queue."""
        self._meter = OffsetMeter() if offset_ms is None and len(devices) == 2 else None
        self._events: list[Event] = []
        self._num_pictures = 0
        self._picture_rate, self._told_rate = PictureRate(), False
        self._is_dark = False
        self._sound_age_s = 0.0
        self._told_lost_s, self._told_lost_at_s = 0.0, float("-inf")
        stream.on_ticks = self._see_ticks

    def states(self) -> dict[Device, State | None]:
        """Return each device's state; None before anything is known."""
        return {device: sight.state for device, sight in self._sights.items()}

    def take(self, item: Capture | Change | None) -> list[Event]:
        """Take what a device delivered, or None when nothing came for a while; return what is new."""
        if isinstance(item, Change):
            self._change(item)
        elif item is not None:
            device: Device = "microphone" if isinstance(item, Sound) else "camera"
            self._sights[device].seen_s = item.host_s
            self._reached_s = max(self._reached_s, item.host_s)
            if self._clock is None:
                self._begin(item)
            else:
                self._push(item)
        else:
            self._reached_s = max(self._reached_s, self._now())
        if self._clock is not None:
            self._pass_over()
        return self._taken_events()

    def note_overflow(self, num_pictures: int, sound_s: float) -> None:
        """Take in how much the queue before the loop has dropped so far; report lost sound once it is noticeable."""
        now_s = self._now()
        if sound_s - self._told_lost_s >= NOTICEABLE_S and now_s - self._told_lost_at_s >= TELL_EVERY_S:
            self._told_lost_s, self._told_lost_at_s = sound_s, now_s
            self._events.append(Notice(f"this machine is too slow: {sound_s:.1f} s of audio lost so far", self._at_s))
        self.figures.overflown_pictures, self.figures.dropped_sound_s = num_pictures, sound_s

    def finish(self) -> list[Event]:
        """End the stream; return the last captions."""
        self._push_early()
        self._stream.finish()
        self._collect()
        self._events.append(Done(self._stream.duration_s, self._stream.notes()))
        return self._taken_events()

    def _begin(self, item: Capture) -> None:
        """Keep what comes until every device has delivered or is lost; then let the stream begin at the first sound."""
        if self._first_s is None:
            self._first_s = self._now()
        self._early.append(item)
        pictures = [each for each in self._early if isinstance(each, Picture)]
        if len(pictures) > MAX_EARLY_PICTURES:
            self._early = [each for each in self._early if each is not pictures[0]]
        has_all = all(sight.seen_s > float("-inf") or sight.state == "lost" for sight in self._sights.values())
        if has_all or self._now() - self._first_s > GRACE_S:
            self._push_early()

    def _push_early(self) -> None:
        early, self._early = self._early, []
        if early:
            first = next((each for each in early if isinstance(each, Sound)), early[0])
            self._clock = Clock(origin_s=first.host_s)
        for each in early:
            self._push(each)

    def _push(self, capture: Capture) -> None:
        assert self._clock is not None
        packet: Packet
        if isinstance(capture, Sound):
            self._sound_age_s = self._now() - capture.host_s
            time_s, self._clock = self._clock.place_sound(capture)
            packet = AudioPacket(capture.samples, capture.sample_rate, time_s)
        else:
            time_s, self._clock = self._clock.place_picture(capture)
            self._note_rate(time_s)
            time_s -= self.offset_ms / 1000
            self._num_pictures += 1
            stride = self._stride()
            if stride is None or self._num_pictures % stride:
                self.figures.dropped_pictures += 1
                return
            if time_s < 0:
                return
            self._is_dark = capture.rgb[::8, ::8].mean() < DARK_LEVEL
            packet = VideoFrame(capture.rgb, round(time_s * 1000) * 1000)  # as exact as every container can keep it
        if self._tap is not None:
            self._tap(packet)
        self._timed(partial(self._stream.accept, packet))

    def _note_rate(self, time_s: float) -> None:
        rate_hz = self._picture_rate.seen(time_s)
        is_told = self._told_rate or self.figures.overflown_pictures > 0  # these were taken, but lost here
        if rate_hz is not None and rate_hz < FEW_PICTURES_HZ and not is_told:
            self._told_rate = True
            message = (
                f"the camera delivers only {rate_hz:.0f} frames per second, too few to read lips well; more light helps"
            )
            self._events.append(Notice(message, self._at_s))

    def _stride(self) -> int | None:
        if "microphone" not in self._sights or not self._is_present("microphone"):
            return 1
        return next((stride for limit_s, stride in STRIDES if self._sound_age_s <= limit_s), None)

    def _pass_over(self) -> None:
        """Do not wait for a device that is gone: pass over it up to where the other one is, or to now if both are."""
        assert self._clock is not None
        present = [device for device in self._sights if self._is_present(device)]
        front = self._stream.state.front
        for device in self._sights:
            is_shed = device == "camera" and self._stride() is None
            if device in present and not is_shed:
                continue
            others = [other for other in present if other != device]
            if others:
                end_tick = front.sound_end if others[0] == "microphone" else front.pictures_end
                until_s = (end_tick + 0.5) * TICK_S
            else:
                until_s = self._clock.stream_s(self._reached_s) - STALL_S
            self._timed(partial(self._stream.pass_over, SENSES[device], until_s))

    def _is_present(self, device: Device) -> bool:
        sight = self._sights[device]
        return sight.is_live and self._reached_s - sight.seen_s < STALL_S

    def _timed(self, work: Callable[[], None]) -> None:
        num_chunks, begun_s = self.figures.num_chunks, time.perf_counter()
        work()
        num_new = self.figures.num_chunks - num_chunks
        self._collect()
        work_s = time.perf_counter() - begun_s
        self._chunk_work_s += work_s  # includes finding lips while the chunk fills
        if num_new:
            self.figures.step_ms.append(work_s * 1000 / num_new)
            self.figures.chunk_ms.append(self._chunk_work_s * 1000 / num_new)
            self._chunk_work_s = 0.0
            self._update_states()
            self._correct_offset()

    def _collect(self) -> None:
        """Take the captions; their latency is measured from the capture of the newest tick that was recognised."""
        for caption in self._stream.captions():
            latency_ms: float | None = None
            if self._clock is not None:
                latency_ms = (self._now() - self._clock.host_s(self._stream.duration_s)) * 1000
                (self.figures.final_ms if caption.is_final else self.figures.partial_ms).append(latency_ms)
            self._events.append(replace(caption, latency_ms=latency_ms))

    def _see_ticks(self, ticks: SenseTicks) -> None:
        self.latest = ticks
        self.figures.num_chunks += 1
        if self._meter is not None:
            self._meter = self._meter.seen(*ticks.mouth_and_voice())

    def _correct_offset(self) -> None:
        late_ms = None if self._meter is None else self._meter.late_ms
        if late_ms is None:
            return
        self.offset_ms += late_ms
        self._meter = OffsetMeter()
        self._events.append(
            Notice(f"the video lags the audio by {self.offset_ms:.0f} ms; this is corrected", self._at_s)
        )

    def _change(self, change: Change) -> None:
        sight = self._sights[change.device]
        was_live, sight.is_live = sight.is_live, change.is_live
        if change.is_live:
            self._tell(change.device, "live", change.message)
            return
        if was_live and self._clock is not None:
            self._clock = self._clock.lose(sound=change.device == "microphone")
        self._tell(change.device, "lost", change.message)

    def _update_states(self) -> None:
        ticks = self.latest
        if ticks is None:
            return
        for device in self._sights:
            if not self._is_present(device):
                if self._sights[device].is_live:
                    self._tell(device, "lost", f"the {device} delivers nothing at the moment")
            elif device == "microphone":
                is_heard = bool(ticks.heard.any())
                self._tell(device, "live" if is_heard else "muted", "heard" if is_heard else "there is no sound at all")
            elif ticks.visible.any():
                self._tell(device, "live", "a face is seen")
            elif self._is_dark:
                self._tell(device, "covered", "the picture is dark: the lens may be covered")
            else:
                self._tell(device, "no_face", "no face is seen")

    def _tell(self, device: Device, state: State, message: str) -> None:
        sight = self._sights[device]
        if sight.state != state:
            sight.state = state
            self._events.append(Status(device, state, message, self._at_s))

    @property
    def _at_s(self) -> float:
        return 0.0 if self._clock is None else max(0.0, self._clock.stream_s(self._now()))

    def _taken_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
