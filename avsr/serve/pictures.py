"""Untrusted image files: their headers are checked on arrival, and they are decoded only when used."""

from __future__ import annotations

import cv2
import numpy as np

from avsr.serve.protocol import ProtocolError
from avsr.types import ByteArray, VideoFrame

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG whose segment tells the size of the picture (SOF0 to SOF15)."""
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a segment (TEM and RST0 to RST7)."""
_JPEG_SKIPPED = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
"""Markers with a segment that may come before the size: DHT, DAC, DQT, DNL, DRI, APP0 to APP15 and COM.

These and no others: what libjpeg takes otherwise than we do could hide the true size from us.
"""
MAX_MARKERS = 1000
"""Looked at before the size, bytes of padding among them: a picture has a few dozen; millions would take seconds."""
_JPEG_SCAN = b"\xff\xda"
MAX_SCANS = 64
"""A progressive JPEG has about ten scans, each over the whole picture; thousands of them fit into a small file."""


class FileFrame(VideoFrame):
    """A picture kept as the JPEG, PNG or WebP file it came in, which takes a tenth of the memory of a decoded one.

    ``rgb`` u8 (H, W, 3), RGB and upright, is decoded anew each time, and raises ProtocolError where it is damaged.

    Raises:
        ProtocolError: it is none of these, has a side above ``max_side``, or would take too long to decode.
    """

    __slots__ = ("data", "max_side")
    data: bytes
    max_side: int

    def __init__(self, data: bytes, pts_us: int, max_side: int) -> None:
        check_picture(data, max_side)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "max_side", max_side)
        object.__setattr__(self, "pts_us", pts_us)

    @property
    def rgb(self) -> ByteArray:
        """Decode it."""
        return decode_picture(self.data)

    def __reduce__(self) -> tuple[type[FileFrame], tuple[bytes, int, int]]:
        """Copy and pickle the file: a state that holds pictures is a value, and they stay undecoded in it."""
        return FileFrame, (self.data, self.pts_us, self.max_side)


def check_picture(data: bytes, max_side: int) -> None:
    """Look at the header of a picture from outside, without decoding it.

    Raises:
        ProtocolError: it is no JPEG, PNG or WebP, has a side above ``max_side``, or would take too long to decode.
    """
    size = picture_size(data)
    if size is None:
        raise ProtocolError("bad_media", "a picture is no JPEG, PNG or WebP file, or its header is damaged")
    if min(size) < 1 or max(size) > max_side:
        raise ProtocolError("bad_media", f"a picture of {size[0]} x {size[1]}; the sides may have 1 to {max_side}")
    if data[:2] == b"\xff\xd8" and data.count(_JPEG_SCAN) > MAX_SCANS:
        raise ProtocolError("bad_media", f"a JPEG of {data.count(_JPEG_SCAN)} scans; at most {MAX_SCANS} are decoded")


def decode_picture(data: bytes) -> ByteArray:
    """Turn a file that was checked into u8 (H, W, 3), RGB and upright.

    Raises:
        ProtocolError: it is damaged.
    """
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise ProtocolError("bad_media", f"a picture of {len(data)} bytes is damaged")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def encode_png(rgb: ByteArray) -> bytes:
    """Return u8 (H, W, 3) as a file that decodes to the same bytes."""
    return _encoded(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])


def encode_jpeg(gray: ByteArray) -> bytes:
    """Return u8 (H, W) as a small file, for people to look at."""
    return _encoded(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 80])


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header says; None where it is no header of JPEG, PNG or WebP."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return (_big(data, 16, 4), _big(data, 20, 4)) if data[12:16] == b"IHDR" and len(data) >= 24 else None
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(MAX_MARKERS):
        if at + 9 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _JPEG_SIZES:
            return _big(data, at + 7, 2), _big(data, at + 5, 2)
        if marker == 0xFF:  # a byte of padding
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_SKIPPED:
            at += 2 + max(2, _big(data, at + 2, 2))
        else:  # libjpeg refuses these too, except 0, which is no marker and is skipped there
            return None
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    if kind == b"VP8L":
        bits = _little(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
    return None


def _big(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "big")


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")


def _encoded(suffix: str, picture: ByteArray, settings: list[int]) -> bytes:
    done, file = cv2.imencode(suffix, np.ascontiguousarray(picture), settings)
    assert done
    return bytes(file)
