"""Laws of decoded pictures: they stand upright, in square pixels, and are no larger than a mouth needs."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from media_clips import even_times_s, write_clip

from avsr.media import open_media
from avsr.types import VideoFrame


def _pictures(path):
    with open_media(path) as media:
        return [item for item in media if isinstance(item, VideoFrame)]


@pytest.mark.parametrize(
    ("is_mirrored", "degrees", "matrix"),
    [
        (False, 90, (0, 1, -1, 0)),
        (False, 180, (-1, 0, 0, -1)),
        (False, 270, (0, -1, 1, 0)),
        (True, 0, (-1, 0, 0, 1)),  # as a front camera shows it
        (True, 90, (0, 1, 1, 0)),
        (True, 180, (1, 0, 0, -1)),
        (True, 270, (0, -1, -1, 0)),
    ],
)
def test_rotated_and_mirrored_phone_video_stands_upright(tmp_path, is_mirrored, degrees, matrix):
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    path = tmp_path / "phone.mp4"
    write_clip(path, frame_times_s=even_times_s(25, 0.2), audio_rate=None, picture=picture)
    data = bytearray(path.read_bytes())
    # The display matrix lies 40 bytes into the (version 0) track header; a phone turns it so many degrees clockwise.
    place = data.rindex(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    pictures = _pictures(path)
    upright = np.rot90(picture, -degrees // 90)
    upright = upright[:, ::-1] if is_mirrored else upright
    assert pictures[0].rgb.shape == upright.shape
    assert np.abs(pictures[0].rgb.astype(int) - upright)[::8, ::8].mean() < 20


def test_large_pictures_are_scaled_down_and_pixels_made_square(tmp_path):
    path = tmp_path / "large.mp4"
    write_clip(path, frame_times_s=even_times_s(25, 0.08), audio_rate=None, picture=np.zeros((1080, 1920, 3), np.uint8))
    assert _pictures(path)[0].rgb.shape == (720, 1280, 3)
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    assert _pictures(path)[0].rgb.shape == (48, 96, 3)
