"""When pictures are shown, and how long: as their container says, in the order of their times."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from media_clips import even_times_s, write_clip

from avsr.media import open_media


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_reordered_pictures_come_in_order(tmp_path, suffix, codec):
    path = tmp_path / f"reordered{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for index in range(40):
            rgb = np.full((48, 64, 3), 40 + index * 4, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with open_media(path) as media:
        pictures = list(media)
    assert [frame.pts_us for frame in pictures] == [40_000 * index for index in range(40)]
    levels = np.array([frame.rgb.mean() for frame in pictures])
    assert np.abs(levels - (40 + 4 * np.arange(40))).max() < 8
    assert media.warnings == ()


def test_missing_times_follow_from_the_frame_rate(tmp_path):
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    with open_media(path) as media:
        times_us = [frame.pts_us for frame in media]
    assert len(times_us) == 20
    np.testing.assert_allclose(np.diff(times_us), np.diff(times_us)[0], atol=2)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_pictures_that_a_decoder_keeps_to_the_end_have_their_own_times(tmp_path, suffix):
    path = tmp_path / f"held{suffix}"
    times_s = [0, 1, Fraction(6, 5)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time_s in times_s:
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = int(time_s * 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with open_media(path) as media:
        pictures = list(media)
    assert [frame.pts_us for frame in pictures] == [int(time_s * 1_000_000) for time_s in times_s]
    assert media.warnings == ()


def test_the_last_picture_lasts_as_long_as_any_other(tmp_path):
    path = tmp_path / "slow.mp4"
    write_clip(path, fps=1, frame_times_s=even_times_s(1, 3.0), audio_rate=None)
    with open_media(path) as media:
        pictures = list(media)
    assert len(pictures) == 3 and media.position_s == 3.0
    assert media.warnings == ()
