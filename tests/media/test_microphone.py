"""Microphones are found by number or name, and their sound has the times of its capture."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avsr.errors import DeviceError
from avsr.media import microphone as module
from avsr.media.capture import Sound
from avsr.media.microphone import Microphone, MicrophoneInfo, choose_microphone, list_microphones, open_microphone

FOUND = (
    MicrophoneInfo(0, "Built-in Audio", "ALSA", 2, 48_000, False),
    MicrophoneInfo(3, "USB Camera: Audio", "ALSA", 1, 44_100, True),
    MicrophoneInfo(4, "USB Headset", "ALSA", 2, 44_100, False),
)


@pytest.mark.parametrize(
    ("spec", "index"), [(None, 3), ("0", 0), ("usb headset", 4), ("Built-in Audio", 0), ("camera", 3)]
)
def test_a_microphone_is_chosen_by_number_name_or_part_of_it(spec: str | None, index: int) -> None:
    assert choose_microphone(FOUND, spec).index == index


@pytest.mark.parametrize(("spec", "match"), [("usb", "several"), ("9", "no microphone"), ("", "several")])
def test_what_is_not_clear_is_refused_with_the_names_there_are(spec: str, match: str) -> None:
    with pytest.raises(DeviceError, match=match) as caught:
        choose_microphone(FOUND, spec)
    assert "USB Headset" in str(caught.value)


def test_without_any_microphone_a_way_out_is_named_that_needs_no_camera() -> None:
    with pytest.raises(DeviceError, match=r"plug one in$"):
        choose_microphone((), None)


class FakePortAudio:
    """As much of the sounddevice module as a microphone needs; takes stereo only, as raw devices may."""

    PortAudioError = RuntimeError

    def __init__(self) -> None:
        self.callback: Any = None
        self.active = True
        self.settings: dict[str, Any] = {}
        self.more: list[dict[str, Any]] = []

    def query_devices(self) -> list[dict[str, Any]]:
        common = {"hostapi": 0, "default_samplerate": 48_000.0}
        return [
            {"index": 0, "name": "Speakers", "max_input_channels": 0, **common},
            {"index": 1, "name": "Desk", "max_input_channels": 2, **common},
            *({**common, **device} for device in self.more),
        ]

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA", "default_input_device": 1}, {"name": "JACK", "default_input_device": -1}]

    def InputStream(self, **settings: Any) -> Any:  # noqa: N802
        if settings["channels"] != 2:
            os.write(2, b"ALSA lib pcm.c: Unable to create stream")
            raise self.PortAudioError("Invalid number of channels")
        self.settings = settings
        self.callback = settings["callback"]
        return self

    def start(self) -> None:
        pass

    def close(self, ignore_errors: bool = False) -> None:
        self.active = False


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setattr(module, "_portaudio", lambda: fake)
    return fake


def test_only_what_can_hear_is_listed(portaudio: FakePortAudio) -> None:
    (desk,) = list_microphones()
    assert (desk.name, desk.sample_rate, desk.num_channels, desk.is_default) == ("Desk", 48_000, 2, True)


def test_microphones_of_one_make_are_told_apart(portaudio: FakePortAudio) -> None:
    headset = {"name": "Headset", "max_input_channels": 1}
    portaudio.more = [{**headset, "index": 2}, {**headset, "index": 3}, {**headset, "index": 4, "hostapi": 1}]
    found = list_microphones()
    assert [(info.name, info.system) for info in found[1:]] == [
        ("Headset", "ALSA"),
        ("Headset (2)", "ALSA"),
        ("Headset", "JACK"),  # the first one again
    ]
    assert [choose_microphone(found, name).index for name in ("Headset", "Headset (2)")] == [2, 3]
    with pytest.raises(DeviceError, match=r"several.*'Headset \(2\)'"):
        choose_microphone(found, "head")


def test_what_the_driver_writes_when_a_microphone_is_opened_does_not_go_through_the_captions(
    portaudio: FakePortAudio, capfd: pytest.CaptureFixture[str]
) -> None:
    open_microphone(None)
    assert portaudio.settings["channels"] == 2  # mono was refused
    assert capfd.readouterr().err == ""


def test_sound_comes_in_mono_with_both_clocks(portaudio: FakePortAudio) -> None:
    source = open_microphone("Desk")
    assert isinstance(source, Microphone)
    for index in range(3):
        stereo = np.array([[100, 200], [index, index]], np.int16)
        portaudio.callback(stereo, 2, SimpleNamespace(currentTime=9.0, inputBufferAdcTime=8.75), None)
    sounds = [source.read() for _ in range(3)]
    assert sounds[2].samples.tolist() == [150, 2]
    assert [sound.device_s for sound in sounds] == [0.0, 2 / 48_000, 4 / 48_000]
    assert 0 < time.monotonic() - sounds[0].host_s < 5
    assert sounds[0].latency_s == pytest.approx(0.25, abs=1e-3)


def test_a_driver_that_tells_nonsense_is_limited(portaudio: FakePortAudio) -> None:
    source = open_microphone(None)
    portaudio.callback(
        np.zeros((4800, 2), np.int16), 4800, SimpleNamespace(currentTime=9.0, inputBufferAdcTime=0), None
    )
    sound = source.read()
    assert 0.1 <= time.monotonic() - sound.host_s < 5
    assert sound.latency_s == module.MAX_LATENCY_S  # the clock will hardly follow a single one


def test_a_microphone_that_stops_is_an_error(portaudio: FakePortAudio) -> None:
    source = open_microphone(None)
    portaudio.active = False
    with pytest.raises(DeviceError, match="Desk"):
        source.read()


def test_nobody_reading_fills_no_memory(portaudio: FakePortAudio) -> None:
    source = open_microphone(None)
    for _ in range(module.MAX_WAITING + 7):
        portaudio.callback(
            np.zeros((960, 2), np.int16), 960, SimpleNamespace(currentTime=0, inputBufferAdcTime=0), None
        )
    kept = [source.read() for _ in range(module.MAX_WAITING)]
    portaudio.callback(np.zeros((960, 2), np.int16), 960, SimpleNamespace(currentTime=0, inputBufferAdcTime=0), None)
    # What was dropped is a gap on the device's clock, not a shift.
    after = source.read()
    assert after.device_s - kept[-1].device_s == pytest.approx(8 * 0.02)
    assert after.lost_s == pytest.approx(7 * 0.02)


def test_what_the_driver_dropped_is_a_gap_of_its_length_and_told(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, now_s = open_microphone(None), [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])

    def come(late_s: float, *, has_overflown: bool) -> Sound:
        now_s[0] += 0.02 + late_s
        flags = SimpleNamespace(input_overflow=has_overflown)
        portaudio.callback(
            np.zeros((960, 2), np.int16), 960, SimpleNamespace(currentTime=0, inputBufferAdcTime=0), flags
        )
        return source.read()

    for _ in range(20):
        come(0.0, has_overflown=False)
    before = come(0.003, has_overflown=False)
    behind = come(0.5, has_overflown=True)
    next_one = come(0.0, has_overflown=False)
    assert behind.lost_s == pytest.approx(0.503, abs=1e-3)
    assert behind.device_s - before.device_s == pytest.approx(0.02 + behind.lost_s)
    assert next_one.device_s - behind.device_s == pytest.approx(0.02)
    assert (before.lost_s, next_one.lost_s) == (0.0, 0.0)
    assert come(0.1, has_overflown=False).lost_s == 0.0  # late is not lost


def test_a_driver_that_always_tells_of_overflows_loses_no_more_than_the_jitter(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, now_s = open_microphone(None), [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    flags = SimpleNamespace(input_overflow=True)
    rng, lost_s = np.random.default_rng(0), 0.0
    for index in range(500):  # 10 s
        now_s[0] = 100.0 + 0.02 * index + rng.uniform(0, 0.005)
        portaudio.callback(
            np.zeros((960, 2), np.int16), 960, SimpleNamespace(currentTime=0, inputBufferAdcTime=0), flags
        )
        lost_s += source.read().lost_s
    assert lost_s <= 0.005 + 1e-3


def test_an_overflow_before_the_first_packet_loses_nothing(portaudio: FakePortAudio) -> None:
    source = open_microphone(None)
    flags = SimpleNamespace(input_overflow=True)
    portaudio.callback(np.zeros((960, 2), np.int16), 960, SimpleNamespace(currentTime=0, inputBufferAdcTime=0), flags)
    sound = source.read()
    assert (sound.device_s, sound.lost_s) == (0.0, 0.0)
