"""Laws of reading files: times are kept, every track that is wanted is read, every source can be one."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import align, even_times_s, noisy_picture, write_clip

from avsr.errors import MediaError
from avsr.media import AudioPacket, open_media
from avsr.types import VideoFrame

HALF_TICK_S = 0.02
ROUNDING_S = 0.002
"""Containers round times to a millisecond, and the click is 2 ms wide."""


def _deliveries(source, **options):
    with open_media(source, **options) as media:
        items = list(media)
    sound = [item for item in items if isinstance(item, AudioPacket)]
    pictures = [item for item in items if isinstance(item, VideoFrame)]
    return items, sound, pictures, media


def _align(source, **options):
    with open_media(source, **options) as media:
        return align(media)


# Time


@pytest.mark.parametrize(
    ("suffix", "fps"),
    [
        *((".mp4", fps) for fps in (10, 15, 24, 25, Fraction(30000, 1001), 30, 50, 60)),
        (".mkv", Fraction(30000, 1001)),
        (".mkv", 60),
        (".mov", 30),
        (".webm", 30),
        (".ts", 25),
        (".avi", 30),
        (".mpg", 25),
        (".mpg", 50),
    ],
)
def test_flash_and_click_meet_within_half_a_tick(tmp_path, suffix, fps):
    path = tmp_path / f"clip{suffix}"
    write_clip(path, fps=fps, frame_times_s=even_times_s(fps, 2.0))
    with open_media(path) as media:
        assert media.duration_s == pytest.approx(2.0, abs=0.05)
        aligned = align(media)
        assert media.warnings == ()
        assert media.position_s == pytest.approx(2.0, abs=0.12)
    assert abs(aligned.skew_s()) <= HALF_TICK_S + ROUNDING_S
    assert 50 <= len(aligned.ticks) <= 51 and 50 <= len(aligned.heard) <= 52
    assert aligned.heard[:50].all()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("audio_start_s", "video_start_s"), [(0.3, 0.0), (0.0, 0.26), (1.5, 1.0)])
def test_start_offsets_are_kept_and_the_earlier_track_begins_the_stream(tmp_path, suffix, audio_start_s, video_start_s):
    path = tmp_path / f"clip{suffix}"
    times = [time + Fraction(video_start_s) for time in even_times_s(25, 2.0)]
    write_clip(path, frame_times_s=times, audio_start_s=audio_start_s, flash_s=1.8)
    _, sound, pictures, _ = _deliveries(path)
    aligned = _align(path)
    assert abs(aligned.skew_s()) <= HALF_TICK_S + ROUNDING_S
    offset_s = audio_start_s - video_start_s
    # The first packet begins with the encoder's priming, 30 ms of it for MP2.
    assert sound[0].t_s - pictures[0].pts_us / 1e6 == pytest.approx(offset_s, abs=0.035)
    assert min(sound[0].t_s, pictures[0].pts_us / 1e6) == 0.0


def test_variable_frame_rate_keeps_its_times(tmp_path):
    rng = np.random.default_rng(5)
    times = [Fraction(0)]
    while times[-1] < 2:
        times.append(times[-1] + Fraction(int(rng.integers(10, 90)), 1000))
    path = tmp_path / "vfr.mkv"
    write_clip(path, frame_times_s=times)
    _, _, pictures, _ = _deliveries(path)
    # The sound may begin with priming, before the first picture.
    times_us = [pictures[0].pts_us + round(time * 1_000_000) for time in times]
    assert {frame.pts_us for frame in pictures} <= set(times_us)
    aligned = _align(path)
    assert abs(aligned.skew_s()) <= HALF_TICK_S + ROUNDING_S
    for tick in aligned.ticks[:50]:
        assert tick.frame.pts_us == min(times_us, key=lambda pts_us: abs(pts_us - tick.tick * 40_000))


def test_sound_and_pictures_come_in_the_order_of_their_times(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, frame_times_s=even_times_s(30, 2.0), fps=30)
    items, _, _, _ = _deliveries(path)
    times_s = [item.t_s if isinstance(item, AudioPacket) else item.pts_us / 1e6 for item in items]
    assert all(earlier <= later + 1e-6 for earlier, later in pairwise(times_s))


def test_pictures_that_no_tick_shows_are_left_out_and_change_nothing(tmp_path):
    path = tmp_path / "fast.mp4"
    write_clip(path, fps=50, frame_times_s=even_times_s(50, 1.0), audio_rate=None)
    _, _, pictures, _ = _deliveries(path)
    assert 25 <= len(pictures) <= 28
    assert [tick.frame.pts_us for tick in _align(path).ticks] == [40_000 * tick for tick in range(25)]


# Tracks


@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, 1), (16000, 1), (44100, 2), (48000, 2)])
def test_audio_only_files_have_their_click_in_place(tmp_path, rate_hz, channels):
    path = tmp_path / "sound.wav"
    write_clip(path, audio_rate=rate_hz, channels=channels, flash_s=0.7)
    with open_media(path) as media:
        aligned = align(media)
    assert aligned.ticks == []
    assert aligned.heard.shape == (50,) and aligned.heard.all()
    envelope = np.convolve(np.square(aligned.samples), np.hanning(65), mode="same")
    assert np.argmax(envelope) / 16000 == pytest.approx(0.7, abs=0.001)


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [
        (".flac", "flac", "s16"),
        (".mp3", "libmp3lame", "s16p"),
        (".ogg", "libopus", "s16"),
        (".m4a", "aac", "fltp"),
        (".wav", "pcm_f32le", "flt"),
        (".wav", "pcm_u8", "u8"),
        (".wav", "pcm_s32le", "s32"),
        (".wav", "pcm_s64le", "s64"),
    ],
)
def test_every_audio_format_has_the_same_level(tmp_path, suffix, codec, form):
    path = tmp_path / f"tone{suffix}"
    tone = 0.25 * np.sin(2 * np.pi * 500 * np.arange(48000) / 48000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        resampler = av.AudioResampler(format=form, layout="mono", rate=48000)
        for start in range(0, 48000, 960):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 960].astype(np.float32), "flt", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            for converted in resampler.resample(frame):
                container.mux(stream.encode(converted))
        container.mux(stream.encode())
    aligned = _align(path)
    inner = aligned.samples[4000:12000]
    # LAME turns everything down by 5 % before it encodes.
    assert np.sqrt(np.mean(np.square(inner))) == pytest.approx(0.25 / np.sqrt(2), rel=0.06)
    assert 25 <= len(aligned.heard) <= 28


def test_video_only_files_and_modalities_use_what_is_asked_for(tmp_path):
    both, silent, sound = tmp_path / "both.mp4", tmp_path / "silent.mp4", tmp_path / "sound.wav"
    write_clip(both, frame_times_s=even_times_s(25, 1.0), audio_s=1.0)
    write_clip(silent, frame_times_s=even_times_s(25, 1.0), audio_rate=None)
    write_clip(sound, audio_s=1.0)
    assert [len(part) for part in _deliveries(silent)[1:3]] == [0, 25]
    _, packets, pictures, _ = _deliveries(both, modality="audio")
    assert packets and not pictures
    _, packets, pictures, _ = _deliveries(both, modality="video")
    assert not packets and pictures
    with pytest.raises(MediaError, match="no sound"):
        open_media(silent, modality="audio")
    with pytest.raises(MediaError, match="no moving picture"):
        open_media(sound, modality="video")


def test_one_track_goes_on_when_the_other_has_ended(tmp_path):
    path = tmp_path / "uneven.mp4"
    write_clip(path, frame_times_s=even_times_s(25, 1.0), audio_s=2.0, flash_s=0.5)
    aligned = _align(path)
    assert len(aligned.ticks) == 25 and 50 <= len(aligned.heard) <= 52
    write_clip(path, frame_times_s=even_times_s(25, 2.0), audio_s=1.0, flash_s=0.5)
    aligned = _align(path)
    assert len(aligned.ticks) == 50 and 25 <= len(aligned.heard) <= 27


def test_of_several_audio_tracks_the_first_is_heard(tmp_path):
    path = tmp_path / "tracks.mkv"
    write_clip(path, frame_times_s=even_times_s(25, 1.0), audio_s=1.0, tones_hz=(440.0, 1000.0))
    spectrum = np.abs(np.fft.rfft(_align(path).samples[:16000]))
    assert int(np.argmax(spectrum)) == 440


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        picture = av.VideoFrame.from_ndarray(noisy_picture(), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype=np.int16), "s16p", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    _, packets, pictures, _ = _deliveries(path)
    assert packets and not pictures


# Sources


class _Pipe(io.RawIOBase):
    """A source that can be read once, forwards."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def test_open_files_and_pipes_read_as_paths_do(tmp_path):
    path = tmp_path / "clip.mkv"
    write_clip(path, frame_times_s=even_times_s(25, 1.0), audio_s=1.0)
    expected = _align(str(path))
    for source in (path, io.BytesIO(path.read_bytes()), _Pipe(path.read_bytes())):
        aligned = _align(source)
        np.testing.assert_array_equal(aligned.samples, expected.samples)
        assert [tick.frame.pts_us for tick in aligned.ticks] == [tick.frame.pts_us for tick in expected.ticks]


def test_standard_input_is_read(tmp_path):
    path = tmp_path / "clip.mkv"
    write_clip(path, audio_s=1.0)
    code = "from avsr.media import open_media; print(sum(len(packet.samples) for packet in open_media('-')))"
    done = subprocess.run([sys.executable, "-c", code], input=path.read_bytes(), stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) >= 48000


def test_an_index_at_the_end_is_found_in_a_file_and_named_as_what_is_wrong_with_a_pipe(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, audio_s=1.0)
    data = path.read_bytes()
    place = data.index(b"moov") - 4
    assert data.index(b"mdat") < place
    padding = struct.pack(">I4s", 1 << 20, b"free").ljust(1 << 20, b"\0")  # FFmpeg does not keep so much
    path.write_bytes(data[:place] + padding + data[place:])
    code = (
        "import avsr, avsr.media\n"
        "try: print(sum(1 for _ in avsr.media.open_media('-')))\n"
        "except avsr.AvsrError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code]
    with path.open("rb") as file:
        from_file = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, check=True)
    assert int(from_file.stdout) > 30
    from_pipe = subprocess.run(command, input=path.read_bytes(), stdout=subprocess.PIPE, check=True)
    assert b"+faststart" in from_pipe.stdout


@pytest.mark.parametrize("num_read", [0, 11])
def test_standard_input_is_read_from_where_it_stands(tmp_path, num_read):
    path, behind = tmp_path / "clip.wav", tmp_path / "behind"
    write_clip(path, audio_s=1.0, channels=1, tones_hz=(440,))
    behind.write_bytes(b"x" * num_read + path.read_bytes())
    code = (
        f"import os; os.read(0, {num_read})\n"
        "from avsr.media import open_media\n"
        "import sys; [sys.stdout.buffer.write(packet.samples.tobytes()) for packet in open_media('-')]\n"
    )
    with behind.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdin=file, stdout=subprocess.PIPE, check=True)
    with open_media(path) as media:
        assert done.stdout == b"".join(packet.samples.tobytes() for packet in media)


def test_a_source_is_read_once(tmp_path):
    path = tmp_path / "clip.wav"
    write_clip(path, audio_s=0.1)
    with open_media(path) as media:
        assert list(media)
        with pytest.raises(MediaError, match="open it again"):
            iter(media)


def test_a_file_may_be_called_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.wav", audio_s=1.0)
    (tmp_path / "clip.wav").rename("2024T10:30.wav")
    assert _deliveries("2024T10:30.wav")[1]


def test_a_name_that_is_not_utf_8_is_read_and_shown_in_a_printable_form(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write_clip(tmp_path / "clip.wav", audio_s=1.0)
    (tmp_path / "clip.wav").rename(path)
    _, packets, _, media = _deliveries(path)
    assert packets and Path(media.name).name == "caf?.wav"


# Names that cannot be read, tracks far apart


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ":y"])
def test_a_name_longer_than_any_file_has_is_refused(name):
    with pytest.raises(MediaError, match="cannot be"):
        open_media(name)


def test_a_file_in_a_closed_directory_is_refused(tmp_path, monkeypatch):
    def closed(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(MediaError, match="cannot be read: Permission denied"):
        open_media(tmp_path / "clip.mp4")


def test_badly_interleaved_files_are_read_whole_within_the_bound(tmp_path):
    path = tmp_path / "apart.mkv"
    with av.open(str(path), "w", options={"max_interleave_delta": "1"}) as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index in range(700):
            picture = av.VideoFrame(32, 32, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        for start in range(0, 560_000, 8000):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 8000, start, Fraction(1, 8000)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    items, sound, pictures, media = _deliveries(path)
    assert len(pictures) == 700 and sum(len(packet.samples) for packet in sound) == 560_000
    # 512 pictures wait, the others come before the sound is found.
    assert isinstance(items[150], VideoFrame) and items[150].pts_us == 15_000_000
    assert len(media.warnings) == 1 and "too far apart" in media.warnings[0]


# Real recordings


def test_real_recordings_are_read(shared_data):
    paths = [*sorted((shared_data / "raw").glob("*.mpg"))[:6:5], next((shared_data / "grid").glob("*/*.mp4"))]
    for path in paths:
        with open_media(path) as media:
            aligned = align(media)
        assert media.warnings == ()
        assert [tick.frame.pts_us for tick in aligned.ticks] == [40_000 * tick for tick in range(75)]
        assert 73 <= len(aligned.heard) <= 76 and aligned.heard[:73].all()
        assert 0.001 < np.abs(aligned.samples).max() <= 1.0
