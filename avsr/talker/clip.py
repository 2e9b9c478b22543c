"""Write a talking head to an mp4, and return its exact transcript."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from avsr.errors import InputError
from avsr.talker.face import random_face
from avsr.talker.render import render
from avsr.talker.voices import DEFAULT_VOICE, LEAD_S, Phoneme, Speech, Voice, speak
from avsr.types import SAMPLE_RATE, ByteArray, Word

_AAC_RATE = 44_100
"""Sample rate of the audio in the file, Hz: a common one, unlike those of the speech engines."""


@dataclass(frozen=True, slots=True)
class MadeClip:
    """A written clip: its ``path``, transcript and timing, in seconds from its start."""

    path: Path
    text: str
    words: tuple[Word, ...]
    phonemes: tuple[Phoneme, ...]
    duration_s: float
    num_frames: int
    fps: float

    def to_json(self) -> str:
        """Transcript, words and phonemes, to be written next to the clip."""
        words = [
            {"text": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3)} for word in self.words
        ]
        phonemes = [{"name": p.name, "start": round(p.start_s, 3), "end": round(p.end_s, 3)} for p in self.phonemes]
        fields = {"text": self.text, "duration": round(self.duration_s, 3), "fps": self.fps}
        return json.dumps({**fields, "words": words, "phonemes": phonemes}, indent=1, ensure_ascii=False) + "\n"


def make_clip(
    text: str,
    path: str | Path,
    *,
    voice: str | Voice = DEFAULT_VOICE,
    seed: int = 0,
    size: tuple[int, int] = (360, 288),
    fps: float = 25.0,
    lead_s: float = LEAD_S,
    tail_s: float = LEAD_S,
) -> MadeClip:
    """Write an mp4 (H.264 and AAC) in which the face of ``seed`` says ``text``.

    Raises:
        TextError: ``text`` cannot be spoken.
        InputError: an unknown voice, or an invalid size, frame rate, time or path.
        MissingExtraError: the voice's engine is not installed.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InputError(f"{path}: a clip is an mp4; name it so")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")
    face = random_face(seed)
    speech = speak(text, voice, seed=seed, lead_s=lead_s, tail_s=tail_s)
    frames = render(speech, face, size=size, fps=fps)
    try:
        num_frames = write_mp4(path, frames, speech, size, fps)
    except (OSError, av.error.FFmpegError) as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    return MadeClip(path, speech.text, speech.words, speech.phonemes, speech.duration_s, num_frames, fps)


def write_mp4(path: Path, frames: Iterable[ByteArray], speech: Speech, size: tuple[int, int], fps: float) -> int:
    """Encode ``frames`` (rgb u8 of ``size``, width and height) and the sound of ``speech``; return the frame count.

    Raises:
        OSError, av.error.FFmpegError: the file cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    num_frames = 0
    # The output of an encoder depends on its number of threads; one thread gives the same file everywhere.
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "22", "preset": "veryfast", "threads": "1"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=_AAC_RATE, layout="mono")
        audio.bit_rate = 64_000
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=_AAC_RATE)
        num_sent = 0
        for rgb in frames:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = num_frames, 1 / rate
            container.mux(video.encode(frame))
            num_frames += 1
            due = min(round(num_frames / rate * SAMPLE_RATE), len(speech.samples))
            if due > num_sent:
                sound = av.AudioFrame.from_ndarray(speech.samples[None, num_sent:due], format="fltp", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, num_sent, Fraction(1, SAMPLE_RATE)
                for resampled in resampler.resample(sound):
                    container.mux(audio.encode(resampled))
                num_sent = due
        for resampled in resampler.resample(None):
            container.mux(audio.encode(resampled))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return num_frames
