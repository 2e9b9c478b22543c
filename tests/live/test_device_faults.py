"""Devices that go away in the middle of a session and come back: it goes on meanwhile, and takes them up again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from stand_ins import LampFace, pictures, sound

from avsr.errors import DeviceError
from avsr.frontend import SenseTicks
from avsr.live.captioner import LiveCaptioner
from avsr.live.events import Device, Event, Notice, Status
from avsr.live.session import run_session
from avsr.media.capture import Capture, Picture, Sound, Source
from avsr.recognizer import Recognizer
from avsr.types import Caption

DURATION_S = 4.8
GONE_S, BACK_S = 1.6, 2.6
"""Counted, as all times here, from the beginning of the session."""


class Played:
    """Plays captures in real time, from when it is opened; is gone from ``GONE_S`` to ``BACK_S`` if it fails."""

    def __init__(self, device: Device, begun_s: float, *, fails: bool) -> None:
        self.name, self._begun_s, self._fails = device, begun_s, fails
        self._opened_s = time.monotonic() - begun_s
        if fails and GONE_S <= self._opened_s < BACK_S:
            raise DeviceError(f"{device}: nothing is plugged in")
        self._captures = iter(self._all(device))

    def _all(self, device: Device) -> list[Capture]:
        if device == "camera":
            return [Picture(frame.rgb, self._begun_s + frame.pts_us / 1e6) for frame in pictures(DURATION_S)]
        pcm = (sound(DURATION_S) * 32768).astype(np.int16).reshape(-1, 320)
        times_s = [index * 0.02 for index in range(len(pcm))]
        return [
            Sound(samples, 16_000, time_s - self._opened_s, self._begun_s + time_s)
            for samples, time_s in zip(pcm, times_s, strict=True)
        ]

    def read(self) -> Capture:
        for capture in self._captures:
            if capture.host_s < self._begun_s + self._opened_s:
                continue
            time.sleep(max(0.0, capture.host_s + 0.02 - time.monotonic()))
            if self._fails and self._opened_s < GONE_S <= time.monotonic() - self._begun_s:
                raise DeviceError(f"{self.name}: pulled out")
            return capture
        time.sleep(0.1)
        raise DeviceError(f"{self.name}: played to its end")

    def close(self) -> None:
        pass


class Diary:
    """Events with the time at which they were told."""

    def __init__(self, begun_s: float) -> None:
        self.begun_s = begun_s
        self.told: list[tuple[float, Event]] = []

    def take(self, event: Event) -> None:
        self.told.append((time.monotonic() - self.begun_s, event))

    def states(self, device: Device) -> list[tuple[float, str]]:
        return [
            (at_s, event.state) for at_s, event in self.told if isinstance(event, Status) and event.device == device
        ]


@pytest.mark.parametrize("lost", ["camera", "microphone"])
def test_a_device_that_is_gone_is_told_and_is_back_by_itself(engine: Recognizer, lost: Device) -> None:
    stopping, stream = threading.Event(), engine.stream(patience_s=1.0, landmarker=LampFace())
    begun_s = time.monotonic()
    diary = Diary(begun_s)
    devices: tuple[Device, ...] = ("microphone", "camera")
    sources: dict[Device, Callable[[], Source]] = {
        device: lambda device=device: Played(device, begun_s, fails=device == lost)  # type: ignore[misc]
        for device in devices
    }
    timer = threading.Timer(DURATION_S - 0.3, stopping.set)
    timer.start()
    run_session(LiveCaptioner(stream, devices, offset_ms=0.0), sources, [diary], stopping)
    states = diary.states(lost)
    (gone_s,) = [at_s for at_s, state in states if state == "lost" and at_s < DURATION_S - 0.3]
    back_s = next(at_s for at_s, state in states if state != "lost" and at_s > gone_s)
    assert GONE_S <= gone_s < GONE_S + 1.0
    assert BACK_S <= back_s < BACK_S + 1.0
    finals = [event for _, event in diary.told if isinstance(event, Caption) and event.is_final and event.words]
    assert any(GONE_S + 0.1 < word.end_s < BACK_S for final in finals for word in final.words)
    other = "camera" if lost == "microphone" else "microphone"
    assert "lost" not in [state for at_s, state in diary.states(other) if at_s < DURATION_S - 0.3]


class Overflowing(Played):
    """A microphone whose driver drops what comes between the two times, and says so."""

    def _all(self, device: Device) -> list[Capture]:
        kept: list[Capture] = []
        for each in super()._all(device):
            assert isinstance(each, Sound)
            since_s = each.host_s - self._begun_s
            if not GONE_S <= since_s < BACK_S + 0.2:
                is_first = since_s >= BACK_S and isinstance(kept[-1], Sound) and each.device_s - kept[-1].device_s > 0.1
                kept.append(replace(each, lost_s=BACK_S + 0.2 - GONE_S) if is_first else each)
        return kept


def test_sound_that_a_driver_dropped_is_told_and_a_gap_where_it_was(engine: Recognizer) -> None:
    stopping, stream = threading.Event(), engine.stream(modality="audio")
    heard: dict[int, bool] = {}
    begun_s = time.monotonic()
    diary = Diary(begun_s)
    captioner = LiveCaptioner(stream, ("microphone",), offset_ms=0.0)
    see = stream.on_ticks
    assert see is not None

    def watch(ticks: SenseTicks) -> None:
        heard.update(enumerate(ticks.heard.tolist(), ticks.start_tick))
        see(ticks)

    stream.on_ticks = watch
    timer = threading.Timer(DURATION_S - 0.3, stopping.set)
    timer.start()
    run_session(captioner, {"microphone": lambda: Overflowing("microphone", begun_s, fails=False)}, [diary], stopping)
    lost_s = BACK_S + 0.2 - GONE_S
    notices = [event.message for _, event in diary.told if isinstance(event, Notice)]
    assert [message for message in notices if "audio lost so far" in message]
    assert captioner.figures.dropped_sound_s == pytest.approx(lost_s)
    missing = [tick for tick, is_heard in heard.items() if not is_heard and tick < (DURATION_S - 0.5) / 0.04]
    assert len(missing) == pytest.approx(lost_s / 0.04, abs=2)
    assert min(missing) == pytest.approx(GONE_S / 0.04, abs=2)
