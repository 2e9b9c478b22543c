"""Cameras: what there are, and one of them as a source of pictures with their capture times.

Cameras of this machine are read through OpenCV, network cameras (RTSP, MJPEG, MPEG-TS, anything with a URL) through
PyAV, which tells each picture's time on the camera's own clock.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from avsr.errors import DeviceError
from avsr.media.capture import DeviceInfo, Picture, chosen
from avsr.media.naming import reason_of, told_apart, without_password
from avsr.media.rgb import MAX_SIDE_PIXELS, RgbConverter
from avsr.types import ByteArray

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30
"""What a camera is asked for; it may deliver something else."""
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 2.0
"""How long a network camera may take to answer, and to send its next picture."""
MAX_DRIVER_AGE_S = 1.0
"""Capture times further back than this are a driver's mistake."""
NUM_PROBED = 6
"""Where the system cannot list its cameras, so many numbers are tried."""
V4L = Path("/sys/class/video4linux")


@dataclass(frozen=True, slots=True)
class CameraInfo(DeviceInfo):
    """A camera of this machine.

    Where several have one name, ``name`` ends with the ``port`` that each is plugged into: "Webcam (1-2:1.0)". That
    name finds a camera even while it is the only one.
    """

    port: str | None = None


def list_cameras() -> tuple[CameraInfo, ...]:
    """Return the cameras of this machine that are there now."""
    if sys.platform.startswith("linux"):
        return _list_v4l(V4L)
    return tuple(CameraInfo(index, f"camera {index}") for index in range(NUM_PROBED) if _answers(index))


def open_camera(spec: str | None = None) -> Camera | NetworkCamera:
    """Open a camera by number, (part of) name, or URL; the first one of this machine for None.

    Raises:
        DeviceError: there is none, none of that name, several, or it refuses.
    """
    if spec is not None and "://" in spec:
        return NetworkCamera(spec)
    info = choose_camera(list_cameras(), spec)
    return Camera(info.index, info.name)


def choose_camera(found: tuple[CameraInfo, ...], spec: str | None) -> CameraInfo:
    """Return the camera that ``spec`` means: a number, a name, or the only name that contains it; None: the first.

    Raises:
        DeviceError: there is none, none such, or several.
    """
    if not found:
        raise DeviceError("no camera was found; plug one in, or give --camera the URL of a network camera")
    if spec is None:
        return found[0]
    return chosen(
        found,
        spec,
        "camera",
        lambda info: (str(info.index), f"/dev/video{info.index}", info.name, f"{info.name} ({info.port})"),
    )


class Camera:
    """An open camera of this machine: a `Source` of `Picture`, timed by the driver where it tells, else on arrival."""

    def __init__(self, device: int | str, name: str) -> None:
        self.name = name
        path = f"/dev/video{device}"
        if sys.platform.startswith("linux") and Path(path).exists() and not os.access(path, os.R_OK | os.W_OK):
            raise DeviceError(f"no permission to use the camera {name!r} ({path}); join the group 'video'")
        self._capture = _open_quietly(device)
        if not self._capture.isOpened():
            raise DeviceError(f"the camera {name!r} cannot be opened; another program may be using it")
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, WIDTH),
            (cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT),
            (cv2.CAP_PROP_FPS, RATE_HZ),
            (cv2.CAP_PROP_BUFFERSIZE, 2),
        ):
            self._capture.set(setting, value)

    def read(self) -> Picture:
        """Wait for the next picture.

        Raises:
            DeviceError: the camera is gone.
        """
        is_there, bgr = self._capture.read()
        now_s = time.monotonic()
        if not is_there or bgr is None:
            raise DeviceError(f"the camera {self.name!r} delivers nothing any more")
        # Video4Linux tells when the picture was taken, on the clock that monotonic() reads.
        driver_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        host_s = driver_s if 0 <= now_s - driver_s < MAX_DRIVER_AGE_S else now_s
        return Picture(_shrunk(np.ascontiguousarray(bgr[..., ::-1])), host_s)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


class NetworkCamera:
    """A camera behind a URL: a `Source` of `Picture` with the times that its stream states."""

    def __init__(self, url: str) -> None:
        self.name = without_password(url)
        # Little is buffered: what is buffered comes late.
        options = {"fflags": "nobuffer", "probesize": "500000", "analyzeduration": "1000000", "rtsp_transport": "tcp"}
        try:
            self._container = av.open(url, mode="r", options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DeviceError(
                f"the camera {self.name} cannot be opened: {reason_of(error)}; check its address"
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise DeviceError(f"the camera {self.name} sends no video; check its address")
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = 1  # threads decode ahead, and so deliver late
        self._to_rgb = RgbConverter(stream)
        self._frames: Iterator[av.VideoFrame] = self._decode(stream)

    def read(self) -> Picture:
        """Wait for the next picture.

        Raises:
            DeviceError: the stream has ended or broken off, or has been silent for too long.
        """
        for frame in self._frames:
            now_s = time.monotonic()
            try:
                rgb = self._to_rgb(frame)
            except (av.FFmpegError, ValueError):
                continue  # it was damaged on its way
            return Picture(rgb, now_s, None if frame.time is None else float(frame.time))
        raise DeviceError(f"the camera {self.name} has stopped sending")

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _decode(self, stream: Any) -> Iterator[av.VideoFrame]:
        try:
            for packet in self._container.demux(stream):
                try:
                    yield from stream.codec_context.decode(packet)
                except av.error.InvalidDataError:
                    continue  # a picture was damaged on its way; the next ones are not
        except (av.FFmpegError, OSError) as error:
            raise DeviceError(f"the camera {self.name} has failed: {reason_of(error)}") from error


def _list_v4l(root: Path) -> tuple[CameraInfo, ...]:
    """Read names from sysfs. A camera has several nodes there; only the first one, of index 0, gives pictures."""
    found = []
    for node in root.glob("video*"):
        try:
            name, order = (node / "name").read_text().strip(), (node / "index").read_text().strip()
        except OSError:
            continue
        if order == "0":
            # A link to where it is plugged in, such as 1-2:1.0 of USB.
            port = (node / "device").resolve().name if (node / "device").exists() else None
            found.append(CameraInfo(int(node.name.removeprefix("video")), name, port))
    return _told_apart(sorted(found, key=lambda info: info.index))


def _told_apart(found: list[CameraInfo]) -> tuple[CameraInfo, ...]:
    """Name cameras with one name by their ports, and by numbers where that is not enough."""
    makes = Counter(info.name for info in found)
    names = [f"{info.name} ({info.port})" if makes[info.name] > 1 and info.port else info.name for info in found]
    return tuple(replace(info, name=name) for info, name in zip(found, told_apart(names), strict=True))


def _answers(index: int) -> bool:
    capture = _open_quietly(index)
    try:
        return bool(capture.isOpened())
    finally:
        capture.release()


def _open_quietly(device: int | str) -> Any:
    """Open without OpenCV's messages on standard error: failures are reported by exceptions."""
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        return cv2.VideoCapture(device)
    finally:
        cv2.setLogLevel(level)


def _shrunk(rgb: ByteArray) -> ByteArray:
    height, width = rgb.shape[:2]
    scale = MAX_SIDE_PIXELS / max(height, width)
    if scale >= 1:
        return rgb
    return np.asarray(cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA))
