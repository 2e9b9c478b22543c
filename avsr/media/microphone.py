"""Microphones: what there are, and one of them as a source of sound with its capture times (PortAudio)."""

from __future__ import annotations

import queue
import time
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from avsr.errors import DeviceError
from avsr.media.capture import DeviceInfo, Sound, chosen
from avsr.media.naming import told_apart
from avsr.stderr import silent_stderr

PACKET_S = 0.02
"""Sound is delivered in packets of this length."""
BUFFER_S = 0.3
"""Length of the device's own buffer: sound is lost when it is not read for longer. It adds no delay."""
SILENT_S = 1.0
"""A microphone that delivers nothing for this long is lost."""
FIRST_S = 5.0
"""How long it may take to deliver its first sound; some sound servers wake slowly."""
MAX_WAITING = 500
"""Packets that wait to be read (10 s); beyond that new ones are dropped, and leave a gap of their length."""
MAX_LATENCY_S = 0.5
"""Capture times further before the arrival than this are a driver's mistake."""
NUM_ARRIVALS = 50
"""From the earliest of this many arrivals (1 s) follows when a packet was due, and so how much sound was lost."""


@dataclass(frozen=True, slots=True)
class MicrophoneInfo(DeviceInfo):
    """A microphone.

    ``system`` is PortAudio's host API. Of several with one name in one system, all but the first have a number:
    "Headset (2)".
    """

    system: str
    num_channels: int
    sample_rate: int
    is_default: bool


def list_microphones() -> tuple[MicrophoneInfo, ...]:
    """Return the microphones that are there now.

    Raises:
        DeviceError: the system's sound cannot be reached at all.
    """
    return _list(_portaudio())


def open_microphone(spec: str | None = None) -> Microphone:
    """Open a microphone by number or by (part of) its name; the system's default for None.

    Raises:
        DeviceError: there is none, none of that name, several, or it refuses.
    """
    portaudio = _portaudio()
    info = choose_microphone(_list(portaudio), spec)
    refusals = []
    # Raw ALSA devices may know one number of channels only; every driver knows its default rate.
    for num_channels in dict.fromkeys((1, min(2, info.num_channels), info.num_channels)):
        try:
            with silent_stderr:  # PortAudio and ALSA write of each refusal there, too, through the captions
                return Microphone(portaudio, info, num_channels)
        except (portaudio.PortAudioError, ValueError) as error:
            refusals.append(str(error))
    raise DeviceError(
        f"the microphone {info.name!r} cannot be opened: {refusals[0]}. Another program may be using it, or access may "
        "be denied; `avsr devices --test` tries them all"
    )


def choose_microphone(found: tuple[MicrophoneInfo, ...], spec: str | None) -> MicrophoneInfo:
    """Return the microphone that ``spec`` means: a number, a name, or the only name that contains it; None: default.

    Raises:
        DeviceError: there is none, none such, or several.
    """
    if not found:
        raise DeviceError("no microphone was found; plug one in")
    if spec is None:
        return next((info for info in found if info.is_default), found[0])
    return chosen(found, spec, "microphone", lambda info: (str(info.index), info.name))


class Microphone:
    """An open microphone: a `Source` of `Sound` in packets of 20 ms, i16 mono, at the device's own rate.

    Sound that the driver reports as dropped (PortAudio's "input overflow"), or that was not read in time, is a gap on
    the device's clock; the next packet states its length as ``lost_s``.
    """

    def __init__(self, portaudio: ModuleType, info: MicrophoneInfo, num_channels: int) -> None:
        self.name = info.name
        self._rate = info.sample_rate
        self._waiting: queue.Queue[Sound] = queue.Queue(MAX_WAITING)
        self._num_samples = 0
        """Samples since the beginning, including lost ones."""
        self._num_lost_samples = 0
        """Samples lost since the last packet that was queued."""
        self._delays_s: deque[float] = deque(maxlen=NUM_ARRIVALS)
        self._num_since_overflow = NUM_ARRIVALS
        """Packets since the last overflow, at most ``NUM_ARRIVALS``."""
        self._has_delivered = False
        self._stream = portaudio.InputStream(
            device=info.index,
            samplerate=self._rate,
            channels=num_channels,
            dtype="int16",
            blocksize=round(PACKET_S * self._rate),
            latency=BUFFER_S,
            callback=self._take,
        )
        self._stream.start()

    def read(self) -> Sound:
        """Wait for the next packet.

        Raises:
            DeviceError: nothing has come for a second (at first: 5 s), or the device is gone.
        """
        deadline_s = time.monotonic() + (SILENT_S if self._has_delivered else FIRST_S)
        while time.monotonic() < deadline_s:
            try:
                sound = self._waiting.get(timeout=0.1)
                self._has_delivered = True
                return sound
            except queue.Empty:
                if not self._stream.active:
                    break
        raise DeviceError(f"the microphone {self.name!r} delivers nothing any more")

    def close(self) -> None:
        """Release the device."""
        self._stream.close(ignore_errors=True)

    def _take(self, samples: npt.NDArray[Any], num_samples: int, times: Any, flags: Any) -> None:
        """Queue a packet; called by PortAudio's thread, which must never wait."""
        length_s = num_samples / self._rate
        arrival_s = time.monotonic() - length_s
        self._count_overflow(arrival_s, has_overflown=bool(flags and flags.input_overflow))
        # Sound servers are wrong by most of a second while they wake; what they say is used with care, see the clock.
        latency_s = min(max(times.currentTime - times.inputBufferAdcTime - length_s, 0.0), MAX_LATENCY_S)
        mono = samples[:, 0].copy() if samples.shape[1] == 1 else samples.mean(axis=1).round().astype(np.int16)
        lost_s = self._num_lost_samples / self._rate
        sound = Sound(mono, self._rate, self._num_samples / self._rate, arrival_s, latency_s, lost_s)
        self._num_samples += num_samples
        if self._waiting.full():
            self._num_lost_samples += num_samples
        else:
            self._waiting.put_nowait(sound)
            self._num_lost_samples = 0

    def _count_overflow(self, arrival_s: float, *, has_overflown: bool) -> None:
        """Advance the clock over what the driver dropped before a packet: by the time that the packet is overdue.

        Drivers do not say how much was lost, and the times they state are least reliable then.
        """
        delay_s = arrival_s - self._num_samples / self._rate
        due_s = min(self._delays_s, default=delay_s)
        if has_overflown:
            num_lost_samples = max(0, round((delay_s - due_s) * self._rate))
            self._num_samples += num_lost_samples
            self._num_lost_samples += num_lost_samples
            delay_s -= num_lost_samples / self._rate
            self._num_since_overflow = 0
        if self._num_since_overflow < NUM_ARRIVALS:
            # The packet may also have been delayed by the machine. If that delay was taken for a loss, later packets
            # seem to come early. Ignore that, or the next overflow would count the same delay as lost again.
            delay_s = max(delay_s, due_s)
            self._num_since_overflow += 1
        self._delays_s.append(delay_s)


def _list(portaudio: ModuleType) -> tuple[MicrophoneInfo, ...]:
    try:
        devices, systems = portaudio.query_devices(), portaudio.query_hostapis()
    except portaudio.PortAudioError as error:
        raise DeviceError(f"the system's sound cannot be reached: {error}") from error
    default = next((system["default_input_device"] for system in systems if system["default_input_device"] >= 0), None)
    inputs = [device for device in devices if device["max_input_channels"] > 0]
    # A microphone is listed once for each system, under one name; twice within a system, it is two of a kind.
    names: dict[int, str] = {}
    for system_index in range(len(systems)):
        own = {device["index"]: device["name"] for device in inputs if device["hostapi"] == system_index}
        names |= zip(own, told_apart(list(own.values())), strict=True)
    return tuple(
        MicrophoneInfo(
            index=device["index"],
            name=names[device["index"]],
            system=systems[device["hostapi"]]["name"],
            num_channels=device["max_input_channels"],
            sample_rate=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in inputs
    )


def _portaudio() -> ModuleType:
    """Return sounddevice, looking at the devices anew: PortAudio lists them once, when it is started.

    sounddevice mutes descriptor 2 meanwhile, in a way that other threads would suffer from, if it were not muted yet.
    """
    with silent_stderr:
        try:
            import sounddevice
        except OSError as error:
            raise DeviceError(
                f"the library PortAudio is missing ({error}); on Debian or Ubuntu: sudo apt-get install libportaudio2"
            ) from error
        module: ModuleType = sounddevice
        try:
            module._terminate()
            module._initialize()
        except module.PortAudioError as error:
            raise DeviceError(f"the system's sound cannot be reached: {error}") from error
    return module
