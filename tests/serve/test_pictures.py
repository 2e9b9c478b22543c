"""Image files from outside: sizes are read before anything is decoded, and damage is an error, never a crash."""

from __future__ import annotations

import contextlib
import copy
import pickle
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.serve.pictures import FileFrame, encode_jpeg, encode_png, picture_size
from avsr.serve.protocol import ProtocolError
from avsr.types import ByteArray

RGB = np.random.default_rng(1).integers(0, 256, (24, 40, 3)).astype(np.uint8)
SMOOTH = cv2.resize(RGB[:3, :5], (40, 24))
FILES = {
    "png": encode_png(RGB),
    "jpg": bytes(cv2.imencode(".jpg", SMOOTH[..., ::-1])[1]),
    "progressive": bytes(cv2.imencode(".jpg", SMOOTH[..., ::-1], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]),
    "webp": bytes(cv2.imencode(".webp", SMOOTH[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 80])[1]),
    "lossless webp": bytes(cv2.imencode(".webp", SMOOTH[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1]),
    "gray": encode_jpeg(SMOOTH[..., 0]),
}


def decode_picture(data: bytes, max_side: int) -> ByteArray:
    """Do as the server does with a picture when its turn comes."""
    return FileFrame(data, 0, max_side).rgb


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda frame: pickle.loads(pickle.dumps(frame))])
def test_a_picture_that_waits_can_be_copied_and_is_a_file_still(again: Callable[[FileFrame], FileFrame]) -> None:
    frame = again(FileFrame(FILES["png"], 40_000, 64))
    assert (frame.data, frame.pts_us) == (FILES["png"], 40_000)
    assert (frame.rgb == RGB).all()


def test_png_loses_nothing() -> None:
    assert (decode_picture(encode_png(RGB), 64) == RGB).all()


@pytest.mark.parametrize("name", FILES)
def test_sizes_are_read_from_the_header_and_are_true(name: str) -> None:
    assert picture_size(FILES[name]) == (40, 24)
    assert decode_picture(FILES[name], 40).shape == (24, 40, 3)


@pytest.mark.parametrize("name", ["jpg", "webp"])
def test_colours_are_not_swapped(name: str) -> None:
    red = np.full((24, 40, 3), (200, 30, 40), np.uint8)
    file = bytes(cv2.imencode(f".{name}", red[..., ::-1])[1])
    assert np.abs(decode_picture(file, 64).astype(int) - red).max() < 12


@pytest.mark.parametrize("name", FILES)
def test_a_picture_above_the_limit_is_not_decoded(name: str) -> None:
    with pytest.raises(ProtocolError, match="40 x 24"):
        decode_picture(FILES[name], 39)


def test_a_bomb_is_refused_by_its_header() -> None:
    size = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + size
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(100)
    with pytest.raises(ProtocolError, match="60000"):
        decode_picture(bomb, 1280)


def test_a_small_file_that_takes_minutes_to_decode_is_refused() -> None:
    file = FILES["progressive"]
    last_scan = file[file.rindex(b"\xff\xda") : -2]
    assert decode_picture(file[:-2] + last_scan * 3 + file[-2:], 64).shape == (24, 40, 3)
    with pytest.raises(ProtocolError, match="scans"):
        decode_picture(file[:-2] + last_scan * 1000 + file[-2:], 64)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def test_no_marker_hides_the_true_size_of_a_jpeg() -> None:
    """Behind each marker stands a segment whose length leads to a small size, and the file that is decoded."""
    lure = segment(0xE0, segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\x01\x11\x00") + bytes(20))
    for marker in range(256):
        for length in (2, 4, 6, 8):
            hidden = bytes([0xFF, 0xD8, 0xFF, marker]) + struct.pack(">H", length) + lure + FILES["jpg"][2:]
            if cv2.imdecode(np.frombuffer(hidden, np.uint8), cv2.IMREAD_COLOR) is not None:
                assert picture_size(hidden) in (None, (40, 24)), f"marker {marker:#x}"


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\x01"])
def test_the_size_of_a_jpeg_is_not_looked_for_behind_millions_of_markers(filler: bytes) -> None:
    size = segment(0xC0, struct.pack(">BHHB", 8, 16, 16, 3))
    assert picture_size(b"\xff\xd8" + filler * 100 + size + bytes(9)) == (16, 16)
    assert picture_size(b"\xff\xd8" + filler * 2_000_000 + size + bytes(9)) is None


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 400), st.binary(max_size=40))
def test_damage_is_an_error_or_a_picture(name: str, at: int, noise: bytes) -> None:
    file = FILES[name]
    damaged = file[: at % len(file)] + noise + file[at % len(file) + 2 * len(noise) :]
    with contextlib.suppress(ProtocolError):
        picture = decode_picture(damaged, 64)
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert max(picture.shape) <= 64


@pytest.mark.parametrize("name", FILES)
def test_a_picture_waits_as_its_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decoded.append(len(data)) or decode(data, flags))
    frame = FileFrame(FILES[name], 40_000, 64)
    assert (frame.pts_us, frame.data, decoded) == (40_000, FILES[name], [])
    assert frame.rgb.shape == (24, 40, 3)
    assert decoded == [len(FILES[name])]


def test_damage_behind_the_header_is_an_error_when_it_is_looked_at() -> None:
    frame = FileFrame(FILES["png"][:40] + bytes(20), 0, 64)
    with pytest.raises(ProtocolError, match="damaged"):
        _ = frame.rgb
