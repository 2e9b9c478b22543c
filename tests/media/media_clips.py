"""Small clips made on the spot: a dark picture that flashes, and a quiet track that clicks at the same moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from avsr.media import AudioAligner, AudioPacket, MediaFile, VideoAligner
from avsr.media.align import end_of, take_sound
from avsr.types import ByteArray, VideoTick

WIDTH, HEIGHT = 64, 48
VIDEO_CODECS = {".avi": "mpeg4", ".mpg": "mpeg2video", ".webm": "libvpx", ".ts": "mpeg2video"}
AUDIO_CODECS = {".avi": "pcm_s16le", ".mpg": "mp2", ".webm": "libopus", ".ts": "mp2", ".wav": "pcm_s16le"}


def even_times_s(fps: Fraction | int, duration_s: float) -> list[Fraction]:
    """Frame times of a steady source."""
    return [Fraction(index) / fps for index in range(round(duration_s * fps))]


def write_clip(
    path: Path,
    *,
    frame_times_s: Sequence[Fraction] | None = None,
    fps: Fraction | int = 25,
    audio_rate: int | None = 48000,
    channels: int = 2,
    audio_s: float = 2.0,
    audio_start_s: float = 0.0,
    flash_s: float = 1.0,
    picture: np.ndarray | None = None,
    tones_hz: Sequence[float] = (),
    options: dict[str, str] | None = None,
) -> float | None:
    """Write a clip that flashes for 0.2 s around ``flash_s`` and clicks; return when, in seconds of the clip.

    Each of ``tones_hz`` adds an audio track that sounds that tone instead of the click.
    """
    times = [] if frame_times_s is None else list(frame_times_s)
    white = {time for time in times if abs(time - Fraction(flash_s)) <= Fraction(1, 10)}
    shown = [_planes(rgb) for rgb in (_plain(30), _plain(220))] if picture is None else [_planes(picture)] * 2
    click_s = float(min(white) + max(white)) / 2 if white else flash_s
    with av.open(str(path), "w", options=options or {}) as container:
        video = _add_video(container, path, fps, picture) if times else None
        tracks = []
        if audio_rate is not None:
            layout = {1: "mono", 2: "stereo"}[channels]
            for _ in tones_hz or (0.0,):
                tracks.append(
                    container.add_stream(AUDIO_CODECS.get(path.suffix, "aac"), rate=audio_rate, layout=layout)
                )
        num_samples = round(audio_s * (audio_rate or 0))
        waves = (
            [_wave(audio_rate, num_samples, click_s - audio_start_s, tone_hz) for tone_hz in tones_hz or (0.0,)]
            if tracks
            else []
        )
        # Interleave by time, as a camera would.
        todo: list[tuple[float, int, Any]] = [(float(time), -1, time) for time in times]
        for start in range(0, num_samples, 1024):
            todo += [(audio_start_s + start / audio_rate, index, start) for index in range(len(tracks))]
        for _, index, what in sorted(todo, key=lambda each: each[:2]):
            if index < 0:
                for packet in video.encode(_picture(what, shown[what in white], video)):
                    container.mux(packet)
            else:
                frame = _sound(waves[index][what : what + 1024], channels, audio_rate, what, audio_start_s)
                for packet in tracks[index].encode(frame):
                    container.mux(packet)
        for stream in [video, *tracks]:
            for packet in stream.encode() if stream is not None else ():
                container.mux(packet)
    return click_s


def _add_video(container: Any, path: Path, fps: Fraction | int, picture: np.ndarray | None) -> Any:
    stream = container.add_stream(VIDEO_CODECS.get(path.suffix, "libx264"), rate=fps)
    stream.height, stream.width = (HEIGHT, WIDTH) if picture is None else picture.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    # Times finer than the frame rate, where the codec and the container can hold them.
    if path.suffix not in VIDEO_CODECS:
        stream.codec_context.time_base = Fraction(1, 90000)
        stream.options = {"preset": "ultrafast", "crf": "20"}
    elif path.suffix == ".webm":
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"deadline": "realtime", "cpu-used": "8"}
    return stream


def _plain(level: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), level, dtype=np.uint8)


def _planes(rgb: np.ndarray) -> np.ndarray:
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").to_ndarray(format="yuv420p")


def _picture(time: Fraction, planes: np.ndarray, stream: Any) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    time_base = stream.codec_context.time_base or Fraction(1) / stream.codec_context.framerate
    frame.pts, frame.time_base = round(time / time_base), time_base
    return frame


def _wave(rate: int, num_samples: int, click_s: float, tone_hz: float) -> np.ndarray:
    times = np.arange(num_samples) / rate
    if tone_hz:
        return 0.3 * np.sin(2 * np.pi * tone_hz * times)
    return 0.6 * np.sin(2 * np.pi * 1000 * (times - click_s)) * np.exp(-np.square((times - click_s) / 0.002))


def _sound(wave: np.ndarray, channels: int, rate: int, start: int, start_s: float) -> av.AudioFrame:
    samples = np.repeat(np.round(wave * 32767).astype(np.int16), channels)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout={1: "mono", 2: "stereo"}[channels])
    frame.sample_rate = rate
    frame.pts, frame.time_base = start + round(start_s * rate), Fraction(1, rate)
    return frame


@dataclass(frozen=True)
class Aligned:
    """A whole clip on ticks."""

    samples: np.ndarray
    heard: np.ndarray
    ticks: list[VideoTick]

    def skew_s(self) -> float:
        """Middle of the flash, by the ticks that show it, less the time of the click."""
        white = [tick.tick for tick in self.ticks if tick.frame is not None and tick.frame.rgb.mean() > 120]
        click = int(np.argmax(np.convolve(np.square(self.samples), np.hanning(65), mode="same")))
        return (white[0] + white[-1]) / 2 * 0.04 - click / 16000


def align(media: MediaFile) -> Aligned:
    """Read everything and align it."""
    audio, video = AudioAligner(), VideoAligner()
    audio_state, video_state = audio.init_state(), video.init_state()
    parts, ticks = [], []
    for item in media:
        if isinstance(item, AudioPacket):
            aligned, audio_state = audio.step(item, audio_state)
            parts += aligned
        else:
            shown, video_state = video.step(item, video_state)
            ticks += list(shown)
    parts += audio.flush(audio_state)
    ticks += list(video.flush(video_state))
    samples, heard, _ = take_sound(parts, 0, end_of(parts[-1]) if parts else 0)
    assert [tick.tick for tick in ticks] == list(range(len(ticks)))
    return Aligned(samples, heard, ticks)


def noisy_picture(seed: int = 0) -> ByteArray:
    """A picture u8 (48, 64, 3) that compresses badly."""
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
