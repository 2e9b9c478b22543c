"""Records what a stream was given in a media file; transcribing that gives the same finals."""

from __future__ import annotations

import queue
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from avsr.errors import InputError
from avsr.live.events import Device
from avsr.media import AudioPacket, Packet, to_mono
from avsr.media.naming import reason_of
from avsr.media.resample import Resampler, ResamplerState
from avsr.types import ByteArray, FloatArray, VideoFrame

FORMATS = (".mp4", ".mkv", ".mov")
MAX_WAITING = 600
MAX_WAITING_BEFORE_PICTURE = 200
"""Packets that wait for the encoder; beyond that they are dropped and counted, pictures, which are large, earlier."""
MAX_EARLY = 150
"""Packets kept, at most, until every device has delivered: tracks need the pictures' size and the sound's rate."""
JITTER_S = 0.03
"""Sound whose time is this close to the end of what came before continues it, as in `avsr.media.AudioAligner`."""
MILLISECOND = Fraction(1, 1000)
"""Unit of the pictures' times in every container; the live loop gives whole milliseconds."""
SOUND_CODECS = {".mov": "pcm_s16le"}
"""Lossless codecs of containers that cannot hold FLAC, which is used elsewhere."""
DEFAULT_RATE, DEFAULT_SIZE = 48_000, (640, 480)
"""For a device that is in use but has not delivered anything yet."""


class Recorder:
    """Takes what the stream takes and encodes it in its own thread: sound losslessly, pictures nearly so.

    Raises:
        InputError: the file exists already or cannot be written to, or has none of the suffixes .mp4, .mkv and .mov.
    """

    def __init__(self, path: Path, devices: tuple[Device, ...]) -> None:
        if path.suffix.lower() not in FORMATS:
            raise InputError(f"{path}: recordings are of one of the formats {', '.join(FORMATS)}")
        self._path, self._devices = path, devices
        # Fragmented, so that the file can be read even if its end is missing.
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "frag_keyframe+delay_moov"}
        try:
            path.open("xb").close()  # PyAV itself would notice only at the first packet
            self._container = av.open(str(path), mode="w", options=options)
        except FileExistsError as error:
            raise InputError(f"{path} already exists and is not overwritten; choose another name") from error
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{path} cannot be written to: {reason_of(error)}; choose another place") from error
        self._num_dropped = 0
        self._error: Exception | None = None
        self._early: list[Packet] = []
        self._tracks: _Tracks | None = None
        self._waiting: queue.SimpleQueue[Packet | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._encode_all, name="recorder", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the recording has stopped, for people; None where nothing is wrong."""
        return None if self._error is None else f"{self._path}: the recording broke off: {self._error}"

    def take(self, packet: Packet) -> None:
        """Record sound or a picture; never waits."""
        most = MAX_WAITING_BEFORE_PICTURE if isinstance(packet, VideoFrame) else MAX_WAITING
        if self._waiting.qsize() < most:
            self._waiting.put(packet)
        else:
            self._num_dropped += 1

    def close(self) -> str | None:
        """Write the end of the file; return what went wrong, for people, or None."""
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None:
            return self.problem
        if self._num_dropped:
            return f"{self._path}: {self._num_dropped} pieces are missing, since this machine was too slow"
        return None

    def _encode_all(self) -> None:
        while (packet := self._waiting.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._encode(packet)
            except (av.FFmpegError, InputError, OSError, ValueError) as error:
                self._error = error
        try:
            self._begin()
            if self._tracks is not None:
                self._tracks.flush()
            self._container.close()
            if self._tracks is None:
                self._path.unlink()
        except (av.FFmpegError, InputError, OSError, ValueError) as error:
            self._error = self._error or error

    def _encode(self, packet: Packet) -> None:
        if self._tracks is not None:
            self._tracks.encode(packet)
            return
        self._early.append(packet)
        num_kinds = len({type(each) for each in self._early})
        if num_kinds == len(self._devices) or len(self._early) >= MAX_EARLY:
            self._begin()

    def _begin(self) -> None:
        early, self._early = self._early, []
        if self._tracks is None and early:
            codec = SOUND_CODECS.get(self._path.suffix.lower(), "flac")
            self._tracks = _Tracks(self._container, codec, self._devices, early)
            for packet in early:
                self._tracks.encode(packet)


class _Tracks:
    """The tracks of an open file, made to fit the first packets."""

    def __init__(self, container: Any, codec: str, devices: tuple[Device, ...], early: list[Packet]) -> None:
        self._container = container
        self._sound: Any = None
        self._pictures: Any = None
        self._next_sample: int | None = None
        self._run: tuple[Resampler, ResamplerState] | None = None
        """Resamples the current stretch of unbroken sound to the rate of the track."""
        self._newest_ms = -1
        if "microphone" in devices:
            self._rate = next((p.sample_rate for p in early if isinstance(p, AudioPacket)), DEFAULT_RATE)
            self._sound = container.add_stream(codec, rate=self._rate, layout="mono", format="s16")
        if "camera" in devices:
            shape = next((p.rgb.shape for p in early if isinstance(p, VideoFrame)), DEFAULT_SIZE[::-1])
            options = {"preset": "ultrafast", "crf": "12"}
            self._pictures = container.add_stream("libx264", rate=30, options=options)
            # 4:2:0 halves the colours' size, which must be whole.
            self._pictures.width, self._pictures.height = shape[1] // 2 * 2, shape[0] // 2 * 2
            self._pictures.pix_fmt = "yuv420p"
            self._pictures.codec_context.time_base = MILLISECOND
            self._pictures.codec_context.gop_size = 50

    def encode(self, packet: Packet) -> None:
        if isinstance(packet, AudioPacket):
            self._encode_sound(packet)
            return
        packet_ms = round(packet.pts_us / 1000)
        if packet_ms > self._newest_ms:
            self._newest_ms = packet_ms
            rgb = _fitted(packet.rgb, self._pictures.width, self._pictures.height)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = packet_ms, MILLISECOND
            self._container.mux(self._pictures.encode(frame))

    def flush(self) -> None:
        self._end_run()
        for track in (self._sound, self._pictures):
            if track is not None:
                self._container.mux(track.encode(None))

    def _encode_sound(self, packet: AudioPacket) -> None:
        """Append sound; gaps are filled with silence, overlaps are cut from the newer packet."""
        samples, rate = _as_i16(packet.samples), packet.sample_rate
        start_sample = round((packet.t_s or 0.0) * self._rate)
        if self._next_sample is None:
            self._next_sample = start_sample
        if self._run is not None and self._run[0].rate_hz != rate:
            self._end_run()
        ahead = start_sample - self._next_sample - self._num_held
        if abs(ahead) > JITTER_S * self._rate:
            self._end_run()
            for first in range(0, ahead, self._rate):
                self._put(np.zeros(min(self._rate, ahead - first), np.float32))
            samples = samples[max(0, round(-ahead * rate / self._rate)) :]
        resampler, state = self._run or _begun(rate, self._rate)
        output, state = resampler.step(samples.astype(np.float32), state)
        self._run = resampler, state
        self._put(output)

    @property
    def _num_held(self) -> int:
        """How many samples of the track the resampler has yet to give for its input so far."""
        if self._run is None:
            return 0
        resampler, state = self._run
        num_taken = state.tail_start_sample + len(state.tail)
        return round(num_taken * self._rate / resampler.rate_hz) - state.next_sample

    def _end_run(self) -> None:
        if self._run is not None:
            resampler, state = self._run
            self._put(resampler.flush(state))
            self._run = None

    def _put(self, samples: FloatArray) -> None:
        if len(samples) == 0 or self._next_sample is None:
            return
        rounded = np.clip(np.round(samples), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(rounded[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._next_sample, Fraction(1, self._rate)
        self._next_sample += len(samples)
        self._container.mux(self._sound.encode(frame))


def _begun(rate_hz: int, to_hz: int) -> tuple[Resampler, ResamplerState]:
    resampler = Resampler(rate_hz, to_hz)
    return resampler, resampler.init_state()


def _fitted(rgb: ByteArray, width: int, height: int) -> ByteArray:
    """Return the picture as u8 (height, width, 3), scaled without distortion and padded with black if needed."""
    if rgb.shape[0] // 2 * 2 == height and rgb.shape[1] // 2 * 2 == width:
        return np.ascontiguousarray(rgb[:height, :width])
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    inner = max(1, round(scale * rgb.shape[1])), max(1, round(scale * rgb.shape[0]))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted = np.zeros((height, width, 3), np.uint8)
    fitted[top : top + inner[1], left : left + inner[0]] = cv2.resize(rgb, inner, interpolation=cv2.INTER_AREA)
    return fitted


def _as_i16(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    if samples.dtype == np.int16 and samples.ndim == 1:
        return samples
    rounded: npt.NDArray[np.int16] = np.clip(np.round(to_mono(samples) * 32768), -32768, 32767).astype(np.int16)
    return rounded
