"""What is no media is refused with a reason; what is damaged is read as far as it goes, with a warning."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_clips import align, even_times_s, noisy_picture, write_clip

from avsr.errors import MediaError
from avsr.media import AudioPacket, open_media
from avsr.types import VideoFrame


def test_what_is_no_media_is_refused_with_a_reason(tmp_path):
    (tmp_path / "notes.txt").write_text("bin blue at f two now\n" * 40)
    (tmp_path / "notes.mp4").write_text("bin blue at f two now\n" * 40)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "captions.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    cv2.imwrite(str(tmp_path / "picture.png"), noisy_picture())
    reasons = {
        "notes.txt": "text file",
        "notes.mp4": "no audio or video file",
        "empty.mp4": "empty",
        "random.mp4": "no audio or video file",
        "captions.srt": "no sound and no moving picture",
        "picture.png": "still picture",
        "missing.mp4": "no file",
        ".": "directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(MediaError, match=reason) as caught:
            open_media(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(MediaError, match="name of the file is empty"):
        open_media("")
    with pytest.raises(MediaError, match="the open file"):
        open_media(io.BytesIO(b""))
    with pytest.raises(MediaError, match="Check the address"):
        open_media("http://127.0.0.1:9/clip.mp4")


def _noisy_clip(path: Path) -> bytes:
    """Two seconds of pictures that all weigh about the same, so that a cut in the middle of the file is one in time."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "5"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for index in range(50):
            picture = av.VideoFrame.from_ndarray(noisy_picture(index), format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(video.encode(picture))
            samples = np.random.default_rng(index).integers(-5000, 5000, (1, 1920)).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, index * 1920, Fraction(1, 48000)
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_cut_in_the_middle_gives_its_first_half_and_a_warning(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    data = _noisy_clip(path)
    path.write_bytes(data[: len(data) // 2])
    with open_media(path) as media:
        aligned = align(media)
    assert 15 <= len(aligned.ticks) <= 35 and 15 <= len(aligned.heard) <= 35
    assert media.warnings and str(path) in media.warnings[0]
    assert media.damage == media.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damage_in_the_middle_leaves_the_end_readable_and_warns(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    data = bytearray(_noisy_clip(path))
    begin, end = len(data) * 4 // 10, len(data) * 5 // 10
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    with open_media(path) as media:
        aligned = align(media)
    assert len(aligned.ticks) >= 49
    assert media.warnings and str(path) in media.warnings[0]


def test_a_file_without_its_index_is_refused(tmp_path):
    path = tmp_path / "cut.mp4"
    write_clip(path, frame_times_s=even_times_s(25, 1.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="its end is missing"):
        open_media(path)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_a_video_without_pictures_says_so(tmp_path, suffix):
    path = tmp_path / f"hollow{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(MediaError, match=r"empty or damaged|its end is missing"), open_media(path) as media:
        list(media)


def test_a_tag_in_another_encoding_is_nobodys_business(tmp_path: Path) -> None:
    title = "Müller".encode("latin-1") + b"\0\0"
    tags = b"INFOINAM" + struct.pack("<I", len(title)) + title
    samples = np.zeros(1600, "<i2").tobytes()
    chunks = b"".join(
        name + struct.pack("<I", len(data)) + data
        for name, data in (
            (b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)),
            (b"LIST", tags),
            (b"data", samples),
        )
    )
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    with open_media(tmp_path / "a.wav") as media:
        assert sum(len(packet.samples) for packet in media) == 1600


def _restamped(source: Path, target: Path, kind: str, shifts_s: dict[int, float]) -> None:
    """Copy a file; shift the times of some packets of one kind of track, counted from 0."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        tracks = [container.add_stream_from_template(stream) for stream in given.streams]
        num_seen = 0
        for packet in [packet for packet in given.demux() if packet.size]:
            if packet.stream.type == kind:
                packet.pts += round(shifts_s.get(num_seen, 0) / packet.time_base)
                num_seen += 1
            packet.stream = tracks[packet.stream.index]
            container.mux(packet)


@pytest.mark.parametrize("shift_s", [3, 3600])
@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_damaged_time_costs_one_frame_and_not_the_rest(tmp_path, kind, shift_s):
    path, damaged = tmp_path / "clip.mkv", tmp_path / "damaged.mkv"
    write_clip(path, frame_times_s=even_times_s(25, 2.0))
    # The second and the third give each other no credit: they fall back, too.
    _restamped(path, damaged, kind, {20: shift_s, 30: shift_s + 2, 31: shift_s})
    with open_media(path) as media:
        expected = align(media)
    with open_media(damaged) as media:
        aligned = align(media)
    np.testing.assert_array_equal(aligned.samples, expected.samples)
    np.testing.assert_array_equal(aligned.heard, expected.heard)
    assert len(aligned.ticks) == len(expected.ticks)
    # In the place of a picture without a time the one before it may be shown.
    assert all(
        abs(a.frame.pts_us - b.frame.pts_us) <= 41_000 for a, b in zip(aligned.ticks, expected.ticks, strict=True)
    )
    assert media.warnings == (f"{damaged}: the {kind} is damaged in places (3).",)
    assert media.position_s < 2.2


def test_a_damaged_time_of_several_frames_costs_none_of_them(tmp_path):
    path = tmp_path / "clip.ts"
    write_clip(path, audio_rate=24000, channels=1, options={"max_delay": "700000"})
    with open_media(path) as media:
        expected = align(media)
    data = bytearray(path.read_bytes())
    # The fourth header that states a time, of three frames; 9 bytes on lie its upper bits.
    place = -1
    for _ in range(4):
        place = data.index(b"\0\0\1\xc0", place + 1)
    data[place + 9] ^= 2  # 2 ** 30 ticks of 90 kHz: more than three hours
    path.write_bytes(data)
    with open_media(path) as media:
        aligned = align(media)
    np.testing.assert_array_equal(aligned.samples, expected.samples)
    assert media.warnings == (f"{path}: the audio is damaged in places (3).",)


def test_gaps_are_no_damage_however_little_follows(tmp_path):
    path, gapped = tmp_path / "clip.mkv", tmp_path / "gapped.mkv"
    times_s = [Fraction(index, 25) for index in (0, 1, 2, 200, 400, 401, 402, 700)]
    write_clip(path, frame_times_s=times_s, audio_s=1.0)
    with open_media(path) as media:
        num_packets = sum(isinstance(item, AudioPacket) for item in media)
    _restamped(path, gapped, "audio", {**dict.fromkeys(range(20, 40), 10.0), **dict.fromkeys(range(40, 99), 20.0)})
    with open_media(gapped) as media:
        items = list(media)
    sound_s = [item.t_s for item in items if isinstance(item, AudioPacket)]
    pictures_us = [item.pts_us for item in items if isinstance(item, VideoFrame)]
    assert len(sound_s) == num_packets
    gaps = [index for index in range(1, num_packets) if sound_s[index] - sound_s[index - 1] > 5]
    assert gaps in ([19, 39], [20, 40])  # the first packet primes, and is dropped by PyAV 17.1 and later
    assert [time_us - pictures_us[0] for time_us in pictures_us] == [round(time_s * 1_000_000) for time_s in times_s]
    assert media.warnings == ()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_word_between_long_pauses_is_heard_in_its_time(tmp_path, suffix):
    """It is not held until there is sound again: pictures do not wait for so long."""
    whole, path = tmp_path / "whole.mkv", tmp_path / f"word{suffix}"
    write_clip(whole, frame_times_s=even_times_s(5, 120.0), audio_s=2.0, channels=1)
    with av.open(str(whole)) as given, av.open(str(path), "w") as container:
        tracks = [container.add_stream_from_template(stream) for stream in given.streams]
        packets, num_heard = [packet for packet in given.demux() if packet.size], 0
        for packet in packets:
            if packet.stream.type == "audio":
                moved = round((0 if num_heard < 40 else 8 if num_heard < 55 else 115) / packet.time_base)
                packet.pts, packet.dts, num_heard = packet.pts + moved, packet.dts + moved, num_heard + 1
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = tracks[packet.stream.index]
            container.mux(packet)
    with open_media(path) as media:
        items = list(media)
    assert media.warnings == ()
    times_s = [item.t_s if isinstance(item, AudioPacket) else item.pts_us / 1e6 for item in items]
    assert all(later >= earlier - 0.5 for earlier, later in pairwise(times_s))
