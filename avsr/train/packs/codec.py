"""Sound and lip crops as bytes: Ogg Opus, and H.264 in MP4. Both keep every sample and every picture in its place.

Reading needs libsndfile (``soundfile``) and OpenCV only. Writing needs PyAV, which a machine that only trains may lack.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np

from avsr.errors import InputError, MissingExtraError
from avsr.types import LIP_SIZE, SAMPLE_RATE, ByteArray, FloatArray

AUDIO_BITS_PER_S = 24_000
"""Wideband speech at this rate is hard to tell from the original: 9 kB in 3 s, a sixth of FLAC's."""
LIP_OPTIONS = {
    "preset": "medium",
    "crf": "21",  # 13 kB in 3 s, errors of 43 dB PSNR
    "x264-params": "no-mbtree=1",  # mbtree makes the bytes change from run to run, by what was in memory before
}
LIP_FPS = 25
REPEATABLE = {"fflags": "+bitexact"}
"""The same clip becomes the same bytes."""


def encode_audio(samples: FloatArray) -> bytes:
    """Return f32 (n,) at 16 kHz as Ogg Opus; what lies outside [-1, 1] is clipped. Nothing becomes no bytes."""
    if not len(samples):
        return b""
    av = _import_av()
    file = io.BytesIO()
    with av.open(file, "w", format="ogg", options=REPEATABLE | {"serial_offset": "1"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = AUDIO_BITS_PER_S
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def decode_audio(data: bytes, num_samples: int) -> FloatArray:
    """Return the ``num_samples`` samples, f32 (n,), that `encode_audio` was given; no bytes are silence.

    Raises:
        InputError: ``data`` is not that.
        MissingExtraError: soundfile is not installed.
    """
    if not data:
        return np.zeros(num_samples, np.float32)
    soundfile = require_soundfile()
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise InputError(f"the sound cannot be decoded: {error}") from error
    if rate != SAMPLE_RATE or samples.shape != (num_samples,):
        raise InputError(f"the sound is {samples.shape} at {rate} Hz, not ({num_samples},) at {SAMPLE_RATE} Hz")
    decoded: FloatArray = samples
    return decoded


def encode_lips(lips: ByteArray) -> bytes:
    """Return u8 (T, 96, 96) as a small video. Nothing becomes no bytes."""
    if not len(lips):
        return b""
    av = _import_av()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options=REPEATABLE) as container:
        stream = container.add_stream("libx264", rate=LIP_FPS, options=LIP_OPTIONS)
        stream.width = stream.height = LIP_SIZE
        stream.pix_fmt = "yuv420p"  # plain gray would be half a per cent smaller, and fewer players show it right
        stream.codec_context.thread_count = 1
        for gray in lips:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="gray")))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_lips(data: bytes, num_ticks: int) -> ByteArray:
    """Return the ``num_ticks`` crops, u8 (T, 96, 96), that `encode_lips` was given; no bytes are black.

    Raises:
        InputError: ``data`` is not that.
    """
    lips = np.zeros((num_ticks, LIP_SIZE, LIP_SIZE), np.uint8)
    if not data:
        return lips
    # A thread more for each of many small clips would cost more than the decoding.
    file: Any = io.BytesIO(data)  # OpenCV takes it, though its types do not say so
    capture = cv2.VideoCapture(file, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    num_read = 0
    while True:
        is_read, bgr = capture.read()
        if not is_read:
            break
        if num_read == num_ticks or bgr.shape[:2] != (LIP_SIZE, LIP_SIZE):
            raise InputError(f"the lips are not {num_ticks} pictures of {LIP_SIZE}x{LIP_SIZE}")
        lips[num_read] = bgr[..., 0]
        num_read += 1
    if num_read != num_ticks:
        raise InputError(f"the lips end after {num_read} of {num_ticks} pictures")
    return lips


def require_soundfile() -> Any:
    """Return the module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"soundfile is needed to read a pack ({error}); install it: pip install 'avsr[train]'"
        ) from error
    return soundfile


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f"PyAV is needed to prepare clips ({error}); install it: pip install av") from error
    return av
