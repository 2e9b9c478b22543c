"""Cameras are found by number or name; pictures from them, and from the network, have times."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from network_cameras import RATE_HZ, RtspServer, free_port, sending

from avsr.errors import DeviceError
from avsr.media.camera import Camera, CameraInfo, _list_v4l, choose_camera, open_camera
from avsr.media.capture import Picture, Source
from avsr.media.rgb import RgbConverter
from avsr.types import ByteArray

FOUND = (CameraInfo(0, "Integrated Camera"), CameraInfo(2, "USB Camera"))


@pytest.mark.parametrize(("spec", "index"), [(None, 0), ("2", 2), ("/dev/video2", 2), ("usb", 2), ("USB Camera", 2)])
def test_a_camera_is_chosen_by_number_name_or_part_of_it(spec: str | None, index: int) -> None:
    assert choose_camera(FOUND, spec).index == index


@pytest.mark.parametrize(("spec", "match"), [("camera", "several"), ("7", "no camera")])
def test_what_is_not_clear_is_refused_with_the_names_there_are(spec: str, match: str) -> None:
    with pytest.raises(DeviceError, match=match) as caught:
        choose_camera(FOUND, spec)
    assert "USB Camera" in str(caught.value)


def test_without_any_camera_a_way_out_is_named_that_needs_no_microphone() -> None:
    with pytest.raises(DeviceError, match="plug one in, or give --camera the URL of a network camera"):
        choose_camera((), None)


def test_nodes_without_pictures_are_not_listed(tmp_path: Path) -> None:
    for node, name, index in (("video2", "USB Camera", "0"), ("video3", "USB Camera", "1"), ("video0", "Lid", "0")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    assert _list_v4l(tmp_path) == (CameraInfo(0, "Lid"), CameraInfo(2, "USB Camera"))
    assert _list_v4l(tmp_path / "none") == ()


def test_cameras_of_one_make_are_told_apart_by_where_they_are_plugged_in(tmp_path: Path) -> None:
    for node, name, port in (("video0", "Webcam", "1-2:1.0"), ("video2", "Webcam", "1-3:1.0"), ("video4", "Lid", None)):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text("0\n")
        if port is not None:
            (tmp_path / port).mkdir()
            (tmp_path / node / "device").symlink_to(tmp_path / port)
    found = _list_v4l(tmp_path)
    assert [info.name for info in found] == ["Webcam (1-2:1.0)", "Webcam (1-3:1.0)", "Lid"]
    assert choose_camera(found, "Webcam (1-3:1.0)").index == 2
    with pytest.raises(DeviceError, match=r"several.*1-2:1.0.*1-3:1.0"):
        choose_camera(found, "Webcam")
    shutil.rmtree(tmp_path / "video0")
    (only, _) = _list_v4l(tmp_path)
    assert only.name == "Webcam"
    assert choose_camera((only,), "Webcam (1-3:1.0)").index == 2  # the name holds when the other one is gone
    with pytest.raises(DeviceError, match="no camera"):
        choose_camera((only,), "Webcam (1-2:1.0)")


def test_cameras_without_a_port_are_numbered(tmp_path: Path) -> None:
    for node in ("video0", "video1"):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text("Dummy\n")
        (tmp_path / node / "index").write_text("0\n")
    assert [info.name for info in _list_v4l(tmp_path)] == ["Dummy", "Dummy (2)"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in which the picture turns from dark to light, red all the time."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE_HZ, (64, 48))  # type: ignore[attr-defined]
    for index in range(2 * RATE_HZ):
        writer.write(np.full((48, 64, 3), (0, 0, 5 * index), np.uint8))
    writer.release()
    return path


def test_pictures_are_rgb_and_end_in_an_error(film: Path) -> None:
    """OpenCV reads a film the way it reads a camera."""
    camera = Camera(str(film), "film")
    pictures = [camera.read() for _ in range(2 * RATE_HZ)]
    assert pictures[40].rgb.shape == (48, 64, 3)
    assert pictures[40].rgb[20, 20, 0] > 150 > pictures[40].rgb[20, 20, 2]
    assert all(abs(picture.host_s - time.monotonic()) < 60 for picture in pictures)
    with pytest.raises(DeviceError, match="film"):
        camera.read()
    camera.close()


def test_a_camera_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DeviceError, match="cannot be opened"):
        Camera(97, "nothing")
    with pytest.raises(DeviceError, match="cannot be opened"):
        open_camera("http://127.0.0.1:9/none.ts")


def test_the_password_of_a_network_camera_is_not_told() -> None:
    with pytest.raises(DeviceError) as caught:
        open_camera("http://me:sesame@127.0.0.1:9/none.ts")
    assert "http://127.0.0.1:9/none.ts" in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.fixture(params=["mpegts", "mpjpeg", "tcp", "udp", "rtsp"])
def url(request: pytest.FixtureRequest, film: Path, tmp_path: Path) -> Iterator[str]:
    """A network camera, waiting for whoever connects."""
    port = free_port()
    if request.param == "rtsp":
        with RtspServer(film, tmp_path).running() as address:
            yield address
        return
    address, output = {
        "mpegts": (f"http://127.0.0.1:{port}/live", ["-f", "mpegts", "-listen", "1"]),
        "mpjpeg": (f"http://127.0.0.1:{port}/live", ["-c:v", "mjpeg", "-f", "mpjpeg", "-listen", "1"]),
        "tcp": (f"tcp://127.0.0.1:{port}", ["-f", "mpegts"]),
        "udp": (f"udp://127.0.0.1:{port}", ["-f", "mpegts"]),
    }[request.param]
    target = f"{address}?listen=1" if request.param == "tcp" else address
    with sending(film, *output, target):
        yield address


def opened(url: str) -> Source:
    """Open a camera as soon as it answers."""
    deadline_s = time.monotonic() + 30
    while True:
        try:
            return open_camera(url)
        except DeviceError:  # ffmpeg is not listening yet
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


def test_a_network_camera_is_read_with_its_own_times(url: str) -> None:
    camera = opened(url)
    pictures = [camera.read() for _ in range(20)]
    camera.close()
    assert all(isinstance(picture, Picture) and picture.rgb.shape == (48, 64, 3) for picture in pictures)
    times = [picture.device_s for picture in pictures]
    assert all(time_s is not None for time_s in times)
    assert np.allclose(np.diff(np.array(times, float)), 1 / RATE_HZ, atol=0.002)


def test_a_network_camera_that_goes_is_an_error_and_can_be_opened_again(film: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/live"
    with sending(film, "-f", "mpegts", "-listen", "1", url):
        camera = opened(url)
        camera.read()
    begun_s = time.monotonic()
    with pytest.raises(DeviceError, match=url):
        while True:
            camera.read()
    assert time.monotonic() - begun_s < 10
    camera.close()
    with sending(film, "-f", "mpegts", "-listen", "1", url):
        again = opened(url)
        assert again.read().rgb.shape == (48, 64, 3)  # type: ignore[union-attr]
        again.close()


class FakeCapture:
    """As much of OpenCV's camera as ours needs: it gives pictures while it is plugged in."""

    is_plugged = True
    driver_s: float | None = None

    def __init__(self, device: int | str) -> None:
        self.was_plugged = self.is_plugged

    def isOpened(self) -> bool:  # noqa: N802
        return self.was_plugged

    def set(self, setting: int, value: float) -> bool:
        return True

    def get(self, setting: int) -> float:
        return 0.0 if self.driver_s is None else 1000 * self.driver_s

    def read(self) -> tuple[bool, np.ndarray | None]:
        return (True, np.zeros((48, 64, 3), np.uint8)) if self.is_plugged else (False, None)

    def release(self) -> None:
        self.was_plugged = False


def test_a_camera_that_is_pulled_out_is_an_error_and_is_found_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr("avsr.media.camera.list_cameras", lambda: FOUND if FakeCapture.is_plugged else ())
    camera = open_camera("usb")
    assert camera.read().rgb.shape == (48, 64, 3)
    monkeypatch.setattr(FakeCapture, "is_plugged", False)
    with pytest.raises(DeviceError, match="USB Camera"):
        camera.read()
    camera.close()
    with pytest.raises(DeviceError, match="no camera was found"):
        open_camera("usb")
    monkeypatch.setattr(FakeCapture, "is_plugged", True)
    assert open_camera("usb").read().rgb.shape == (48, 64, 3)


def test_the_drivers_time_of_a_picture_counts_unless_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    camera, now_s = Camera(98, "fake"), time.monotonic()
    monkeypatch.setattr(FakeCapture, "driver_s", now_s - 0.1)
    assert camera.read().host_s == pytest.approx(now_s - 0.1)
    monkeypatch.setattr(FakeCapture, "driver_s", now_s - 100)
    assert camera.read().host_s >= now_s


def test_a_camera_that_may_not_be_used_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/video2")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DeviceError, match="group 'video'"):
        Camera(2, "USB Camera")


def test_a_network_camera_gives_pictures_as_a_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "anamorphic.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for index in range(12):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    convert = RgbConverter.__call__

    def refuse_one(self: RgbConverter, frame: av.VideoFrame) -> ByteArray:
        if frame.pts * frame.time_base == Fraction(7, RATE_HZ):
            raise ValueError("it cannot be converted")
        return convert(self, frame)

    monkeypatch.setattr(RgbConverter, "__call__", refuse_one)
    camera = open_camera(path.as_uri())
    pictures = [camera.read()]
    while pictures[0].device_s < 6 / RATE_HZ - 0.001:  # what opening it used up is not shown
        pictures = [camera.read()]
    pictures += [camera.read() for _ in range(2)]
    camera.close()
    assert [picture.rgb.shape for picture in pictures] == 3 * [(48, 96, 3)]
    assert [picture.device_s for picture in pictures] == pytest.approx([6 / RATE_HZ, 8 / RATE_HZ, 9 / RATE_HZ])
