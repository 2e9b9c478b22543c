"""Decoded pictures as people see them: RGB, upright, in square pixels, and no larger than a mouth needs."""

from __future__ import annotations

import struct
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from avsr.types import ByteArray

MAX_SIDE_PIXELS = 1280
"""Larger pictures are scaled down to this: a mouth needs no more, and colour conversion costs by the pixel."""
MIN_PIXEL_ASPECT, MAX_PIXEL_ASPECT = 0.4, 2.5
"""Width over height of a pixel; what a container states beyond these is a mistake, and pixels are taken as square."""


class RgbConverter:
    """Makes u8 (H, W, 3) of the pictures of one stream."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> ByteArray:
        """Convert a picture.

        Raises:
            av.FFmpegError, ValueError: it cannot be converted; others may be.
        """
        aspect = float(self._stream.sample_aspect_ratio or 1)
        if not MIN_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            aspect = 1.0
        width, height = frame.width * aspect, float(frame.height)
        scale = min(1.0, MAX_SIDE_PIXELS / max(width, height))
        rgb = self._reformatter.reformat(
            frame,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation=Interpolation.AREA if scale < 1 else Interpolation.BILINEAR,
        ).to_ndarray()
        if _is_mirrored(frame):
            rgb = rgb[::-1]
        quarter_turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, quarter_turns), dtype=np.uint8)


def _is_mirrored(frame: av.VideoFrame) -> bool:
    """Tell whether it is to be shown mirrored, as front cameras state: flipped vertically, before it is rotated."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d, *_ = struct.unpack("9i", matrix)
    return bool(a * d < b * c)
