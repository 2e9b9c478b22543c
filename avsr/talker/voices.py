"""Speech synthesis with espeak-ng or flite: text to samples, with the times of all words and phonemes."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from avsr.errors import InputError, MissingExtraError
from avsr.talker.text import Script, parse_script
from avsr.talker.visemes import STOPS, is_pause
from avsr.types import SAMPLE_RATE, FloatArray, Word

Engine = Literal["espeak-ng", "flite"]

LEAD_S = 0.4
"""Default silence before the first word and after the last one."""

_HOW_TO_INSTALL = {
    "espeak-ng": "apt-get install espeak-ng (macOS: brew install espeak-ng)",
    "flite": "apt-get install flite (or choose an espeak-ng voice)",
}
_LIBRARY_FOLDERS = ("/opt/homebrew/lib", "/usr/local/lib")
_TIMEOUT_S = 60.0
_STOP_CLOSURE_S = 0.06
"""espeak-ng reports a stop at its burst; its closure starts about this much earlier."""
_EDGE_S = 0.06
"""Audio kept before the first and after the last phoneme, so that none of their sound is cut off."""
_PEAK = 0.5
_ROOM_NOISE = 3e-4
"""RMS of the added room noise: no real recording is digitally silent."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice: the engine's ``name`` for it; ``speed`` around 1; ``pitch`` 0..100, normally 50 (espeak-ng only)."""

    engine: Engine
    name: str
    speed: float = 1.0
    pitch: int = 50

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: ``speed`` or ``pitch`` is out of range.
        """
        if not (0.5 <= self.speed <= 2 and 0 <= self.pitch <= 100):
            raise InputError(f"voice {self.name}: speed {self.speed} must be 0.5 to 2 and pitch {self.pitch} 0 to 100")


_ESPEAK_NAMES = (
    *(f"en-us+{variant}" for variant in ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")),
    *(f"en-gb+{variant}" for variant in ("m1", "m3", "m5", "m7", "f2", "f4")),
    *(f"{accent}{sex}" for accent in ("en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan") for sex in ("", "+f3")),
)
VOICES: dict[str, Voice] = {
    # The library calls British English plain "en".
    **{name: Voice("espeak-ng", name.replace("en-gb+", "en+")) for name in _ESPEAK_NAMES},
    **{name: Voice("flite", name) for name in ("kal", "slt", "awb", "rms")},
}
"""The voices by name."""
DEFAULT_VOICE = "en-gb+m3"


@dataclass(frozen=True, slots=True)
class Phoneme:
    """One phoneme in its engine's notation; times in seconds from the start of the clip."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """Synthetic speech: ``samples`` f32 (n,) 16 kHz mono; phonemes (and pauses) and words in order, not overlapping."""

    samples: FloatArray
    phonemes: tuple[Phoneme, ...]
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The transcript: lower-case words joined by single spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE


def speak(
    text: str, voice: str | Voice = DEFAULT_VOICE, *, seed: int = 0, lead_s: float = LEAD_S, tail_s: float = LEAD_S
) -> Speech:
    """Synthesise ``text``, with ``lead_s`` of silence before the first phoneme and ``tail_s`` after the last one.

    ``seed`` affects only the room noise. The same arguments give the same samples, bit for bit.

    Raises:
        TextError: ``text`` cannot be spoken.
        InputError: no such voice, a negative seed, or a time outside 0..60 s.
        MissingExtraError: the voice's engine is not installed.
    """
    script = parse_script(text)
    voice = resolve_voice(voice)
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds are counted from 0")
    for name, seconds in (("lead_s", lead_s), ("tail_s", tail_s)):
        if not 0 <= seconds <= 60:
            raise InputError(f"{name} is {seconds}; silence of 0 to 60 seconds can be added")
    raw, raw_rate, timeline = _synthesise(script, voice)

    # Time zero is `lead_s` before the first sound.
    sounds = [event for event in timeline if not is_pause(event[0])]
    if not sounds:
        raise InputError(f"voice {voice.name} says nothing for {text!r}; choose other words or another voice")
    offset_s = lead_s - sounds[0][1]
    duration_s = sounds[-1][2] + offset_s + tail_s
    phonemes = [Phoneme(name, start_s + offset_s, end_s + offset_s) for name, start_s, end_s, _ in timeline]
    first, last = timeline.index(sounds[0]), len(timeline) - timeline[::-1].index(sounds[-1])
    spans = [(start_s + offset_s, end_s + offset_s, token) for _, start_s, end_s, token in sounds]
    return Speech(
        samples=_place(_resample(raw, raw_rate), offset_s, sounds, duration_s, np.random.default_rng([seed, 1])),
        phonemes=tuple(phonemes[first:last]),
        words=_words(script, spans),
    )


def resolve_voice(voice: str | Voice) -> Voice:
    """Return the voice named ``voice``.

    Raises:
        InputError: there is none.
    """
    if isinstance(voice, Voice):
        return voice
    if voice not in VOICES:
        raise InputError(f"no voice {voice!r}; there are {', '.join(VOICES)}")
    return VOICES[voice]


def find_engine(engine: Engine) -> str:
    """Return the path or name of the engine's shared library.

    Raises:
        MissingExtraError: it is not installed.
    """
    found = ctypes.util.find_library(engine)
    if found is None:
        candidates = [Path(folder) / f"lib{engine}.dylib" for folder in _LIBRARY_FOLDERS]
        found = next((str(path) for path in candidates if path.exists()), None)
    if found is None:
        raise MissingExtraError(f"{engine} is needed to speak and is not installed: {_HOW_TO_INSTALL[engine]}")
    return found


_Event = tuple[str, float, float, int]
"""Phoneme name, start and end in seconds of the synthesised audio, index of the word."""


def _synthesise(script: Script, voice: Voice) -> tuple[FloatArray, int, list[_Event]]:
    program = Path(__file__).with_name("_espeak.py" if voice.engine == "espeak-ng" else "_flite.py")
    if voice.engine == "espeak-ng":
        settings = [str(round(160 * voice.speed)), str(voice.pitch)]
    else:
        settings = [f"{1 / voice.speed:.4f}"]
    command = [sys.executable, "-I", str(program), find_engine(voice.engine), voice.name, *settings]
    try:
        done = subprocess.run(
            command, input=" ".join(script.spoken).encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{voice.engine} did not finish {script.text!r} in {_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise MissingExtraError(
            f"{voice.engine} could not speak with voice {voice.name} ({reason[-1] if reason else done.returncode}); "
            f"is all of it installed? {_HOW_TO_INSTALL[voice.engine]}"
        )
    header, _, pcm = done.stdout.partition(b"\n")
    fields = json.loads(header)
    rate: int = fields["sample_rate"]
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
    return samples, rate, _timeline(fields["phonemes"], len(samples), rate, voice.engine)


def _timeline(phonemes: Sequence[tuple[str, int, int]], num_samples: int, rate: int, engine: Engine) -> list[_Event]:
    """Turn start times into events with an end; espeak-ng's stops are moved back to the start of their closure."""
    starts_s = [start / rate for _, start, _ in phonemes]
    if engine == "espeak-ng":
        for index, (name, _, _) in enumerate(phonemes):
            if name.rstrip("#:-2") in STOPS:
                previous_s = starts_s[index - 1] if index else 0.0
                # At most half of the previous phoneme is taken.
                starts_s[index] -= min(_STOP_CLOSURE_S, (starts_s[index] - previous_s) / 2)
    ends_s = [*starts_s[1:], num_samples / rate]
    return [
        (name, start_s, end_s, token)
        for (name, _, token), start_s, end_s in zip(phonemes, starts_s, ends_s, strict=True)
        if end_s > start_s
    ]


def _words(script: Script, spans: list[tuple[float, float, int]]) -> tuple[Word, ...]:
    """Time each word from its first to its last sound; words spoken as one ("of the") share its time by length."""
    tokens = sorted({token for _, _, token in spans})
    words: list[Word] = []
    for first, following in zip(tokens, [*tokens[1:], len(script.words)], strict=True):
        group = script.words[0 if first == tokens[0] else first : following]
        start_s = min(start for start, _, token in spans if token == first)
        end_s = max(end for _, end, token in spans if token == first)
        bounds = start_s + np.cumsum([0, *map(len, group)]) / sum(map(len, group)) * (end_s - start_s)
        words += [
            Word(text, float(a), float(b), 1.0) for text, a, b in zip(group, bounds[:-1], bounds[1:], strict=True)
        ]
    return tuple(words)


def _resample(samples: FloatArray, rate: int) -> FloatArray:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in frames], dtype=np.float32)


def _place(
    samples: FloatArray, offset_s: float, sounds: list[_Event], duration_s: float, rng: np.random.Generator
) -> FloatArray:
    """Place the audible part of ``samples``, scaled to ``_PEAK``, in ``duration_s`` of room noise."""
    placed = rng.normal(0, _ROOM_NOISE, round(duration_s * SAMPLE_RATE)).astype(np.float32)
    start = max(round((sounds[0][1] - _EDGE_S) * SAMPLE_RATE), 0)
    stop = min(round((sounds[-1][2] + _EDGE_S) * SAMPLE_RATE), len(samples))
    target = start + round(offset_s * SAMPLE_RATE)
    start, target = start - min(target, 0), max(target, 0)
    piece = samples[start:stop][: len(placed) - target]
    peak = float(np.abs(piece).max(initial=0.0))
    placed[target : target + len(piece)] += piece * (_PEAK / max(peak, 1e-4))
    return placed
