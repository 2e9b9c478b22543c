"""What devices deliver: sound and pictures, each with the time of its capture.

There are two kinds of clocks. The host's is ``time.monotonic()``: common to all devices, but the time at which it sees
a capture jitters. A device's own clock (samples counted, a stream's timestamps) runs evenly, but from an arbitrary
origin and a little fast or slow. `avsr.live` brings them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from avsr.errors import DeviceError
from avsr.types import ByteArray


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound as captured: ``samples`` (n,) or (n, channels), any type that `avsr.media.to_mono` takes.

    ``device_s`` is the time of the first sample on the device's own clock; ``host_s`` is the same on
    ``time.monotonic()``, derived from its arrival. It was captured ``latency_s`` before that, as far as the driver
    knows. ``lost_s`` of sound directly before it are lost; ``device_s`` counts them.
    """

    samples: npt.NDArray[Any]
    sample_rate: int
    device_s: float
    host_s: float
    latency_s: float = 0.0
    lost_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """Length, seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as captured: ``rgb`` u8 (H, W, 3).

    ``device_s`` is its time on the device's own clock, None where the device has none and ``host_s``, of
    ``time.monotonic()``, is all that is known.
    """

    rgb: ByteArray
    host_s: float
    device_s: float | None = None


Capture = Sound | Picture


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that is there: ``index`` may change when devices come and go, ``name`` stays."""

    index: int
    name: str


Info = TypeVar("Info", bound=DeviceInfo)


class Source(Protocol):
    """An open device. Used by one thread."""

    @property
    def name(self) -> str:
        """The device as people know it."""
        ...

    def read(self) -> Capture:
        """Wait for what comes next.

        Raises:
            DeviceError: the device is gone, or has been silent for too long.
        """
        ...

    def close(self) -> None:
        """Release the device; harmless when repeated."""
        ...


def chosen(found: Sequence[Info], spec: str, kind: str, names_of: Callable[[Info], Sequence[str]]) -> Info:
    """Return the ``kind`` of device with ``spec`` among its names, or the only one whose name contains that.

    Raises:
        DeviceError: there is none such, or several.
    """
    matches = [info for info in found if spec in names_of(info)]
    matches = matches or [info for info in found if spec.lower() in info.name.lower()]
    if len({info.name for info in matches}) == 1:
        return matches[0]
    names = ", ".join(f"{info.index} {info.name!r}" for info in (matches or found))
    raise DeviceError(f"{f'several {kind}s are' if matches else f'no {kind} is'} called {spec!r}; there are: {names}")
