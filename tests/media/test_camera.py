"""Cameras are found by number or name; pictures from them, and from the network, have times."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from avsr.errors import DeviceError
from avsr.media.camera import Camera, CameraInfo, _list_v4l, choose_camera, open_camera

FOUND = (CameraInfo(0, "Integrated Camera"), CameraInfo(2, "USB Camera"))
RATE_HZ = 25


@pytest.mark.parametrize(("spec", "index"), [(None, 0), ("2", 2), ("/dev/video2", 2), ("usb", 2), ("USB Camera", 2)])
def test_a_camera_is_chosen_by_number_name_or_part_of_it(spec: str | None, index: int) -> None:
    assert choose_camera(FOUND, spec).index == index


@pytest.mark.parametrize(("spec", "match"), [("camera", "several"), ("7", "no camera")])
def test_what_is_not_clear_is_refused_with_the_names_there_are(spec: str, match: str) -> None:
    with pytest.raises(DeviceError, match=match) as caught:
        choose_camera(FOUND, spec)
    assert "USB Camera" in str(caught.value)


def test_without_any_camera_the_way_out_is_named() -> None:
    with pytest.raises(DeviceError, match="--camera none"):
        choose_camera((), None)


def test_nodes_without_pictures_are_not_listed(tmp_path: Path) -> None:
    for node, name, index in (("video2", "USB Camera", "0"), ("video3", "USB Camera", "1"), ("video0", "Lid", "0")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    assert _list_v4l(tmp_path) == (CameraInfo(0, "Lid"), CameraInfo(2, "USB Camera"))
    assert _list_v4l(tmp_path / "none") == ()


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


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(params=["mpegts", "mpjpeg"])
def url(request: pytest.FixtureRequest, film: Path, port: int) -> Iterator[str]:
    """A network camera: ffmpeg that sends the film in real time to whoever connects."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed; on Debian: apt-get install ffmpeg")
    codec = {"mpegts": "mpeg2video", "mpjpeg": "mjpeg"}[request.param]
    address = f"http://127.0.0.1:{port}/live"
    source = ["-re", "-stream_loop", "20", "-i", str(film), "-c:v", codec, "-g", "5"]
    server = subprocess.Popen(
        ["ffmpeg", "-v", "error", *source, "-f", request.param, "-listen", "1", address], stdin=subprocess.DEVNULL
    )
    yield address
    server.kill()
    server.wait()


def test_a_network_camera_is_read_with_its_own_times(url: str) -> None:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            camera = open_camera(url)
            break
        except DeviceError:  # ffmpeg is not listening yet
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
    pictures = [camera.read() for _ in range(20)]
    camera.close()
    assert pictures[0].rgb.shape == (48, 64, 3)
    times = [picture.device_s for picture in pictures]
    assert all(time_s is not None for time_s in times)
    assert np.allclose(np.diff(np.array(times, float)), 1 / RATE_HZ, atol=0.002)
