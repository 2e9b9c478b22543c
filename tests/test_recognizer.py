"""Recognizers and streams refuse arguments that make no sense, and say why."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
from stand_ins import sound, tiny_recognizer

import avsr
from avsr.errors import ConfigError, InputError, MediaError
from avsr.recognizer import Recognizer
from avsr.stream import Stream
from avsr.types import SAMPLE_RATE


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """A small one."""
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modality": "lips"}, "'lips' is unknown; use 'av', 'audio' or 'video'"),
        ({"chunk_ms": "320"}, "'320' is not one that .* was trained for; use one of 160, 320, 640"),
        ({"chunk_ms": 320.0}, r"320\.0 is not one that"),
        ({"beam": 0}, "beam 0 must be a whole number"),
        ({"beam": 2.5}, r"beam 2\.5 must be a whole number"),
        ({"patience_s": None}, "patience_s None must be above 0"),
        ({"patience_s": float("nan")}, "patience_s nan must be above 0"),
        ({"lm": 5}, "lm 5 is unknown; use a WordLm"),
        ({"hotwords": "red"}, "hotwords 'red' must be a list"),
        ({"hotwords": ["red"]}, r"hotwords \['red'\] must be a list"),
        ({"hotwords": avsr.Hotword("red")}, "must be a list"),
    ],
)
def test_settings_out_of_range_are_refused(engine: Recognizer, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        engine.stream(**settings)


@pytest.mark.parametrize("threads", [0, 1.5, "2"])
def test_threads_are_counted(engine: Recognizer, threads: Any) -> None:
    with pytest.raises(ConfigError, match="must be a whole number of 1 or more"):
        avsr.load_model(engine.bundle.path, threads=threads)


@pytest.mark.parametrize(
    ("push", "said"),
    [
        (lambda stream: stream.accept_audio(np.zeros(9), SAMPLE_RATE, t="1"), "the time '1'; give seconds"),
        (lambda stream: stream.accept_audio([[0.0], [1.0, 2.0]], SAMPLE_RATE), r"is no array .*; give \(n,\)"),
        (lambda stream: stream.accept_video(np.zeros((4, 4, 3), np.uint8), t="1"), "the time '1'; give seconds"),
        (lambda stream: stream.pass_over("audio", "1"), "up to the time '1'; give seconds"),
        (
            lambda stream: stream.pass_over("sound", 1.0),
            "the modality 'sound' cannot be passed over; use 'audio' or 'video'",
        ),
    ],
)
def test_what_cannot_be_pushed_is_refused(engine: Recognizer, push: Callable[[Stream], None], said: str) -> None:
    with engine.stream() as stream, pytest.raises(InputError, match=said):
        push(stream)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (StringIO("RIFF"), "open as text; open it in mode 'rb'"),
        (b"RIFF", "bytes is no path, URL or open file; put bytes into io.BytesIO"),
        (np.zeros(16_000), "ndarray is no path"),
    ],
)
def test_what_is_no_source_is_refused(engine: Recognizer, source: Any, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        engine.transcribe(source)


@pytest.mark.parametrize(
    ("samples", "note"),
    [
        (np.zeros(SAMPLE_RATE, np.float32), "no sound was heard"),
        ((3e4 * sound(1.0)).astype(np.int32), "no sound was heard"),  # 16 bits in the least of 32
        (3e4 * sound(1.0), r"the audio is up to \d+ times full scale; give i16, or f32 in \[-1, 1\]"),
        (sound(1.0), None),
    ],
)
def test_unusable_sound_is_reported(engine: Recognizer, samples: Any, note: str | None) -> None:
    with engine.stream(modality="audio") as stream:
        stream.accept_audio(samples, SAMPLE_RATE)
        stream.finish()
        (found,) = stream.notes() or (None,)
    assert found is note is None or re.fullmatch(note or "", found or "")
