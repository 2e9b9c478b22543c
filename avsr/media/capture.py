"""What devices deliver: sound and pictures, each with the time of its capture.

Two clocks are told apart. The host's is ``time.monotonic()``, one for all devices, but what it says of a capture
jitters. A device's own clock (samples counted, a stream's timestamps) runs evenly, but from where it likes and a little
fast or slow. `avsr.live` brings them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from avsr.types import ByteArray


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound as captured: ``samples`` (n,) or (n, channels), any type that `avsr.media.to_mono` takes.

    ``device_s`` is the time of the first sample on the device's own clock, ``host_s`` the same by ``time.monotonic()``,
    told by its arrival; it was captured ``latency_s`` before that, as far as the driver knows. ``lost_s`` of sound were
    captured just before and are lost; the device's own clock has gone on by as much.
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


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Return ``names``, of which no two are alike: a second "Webcam" is "Webcam (2)"."""
    found: list[str] = []
    for name in names:
        number, numbered = 1, name
        while numbered in found:
            number += 1
            numbered = f"{name} ({number})"
        found.append(numbered)
    return tuple(found)
