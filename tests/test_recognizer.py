"""What a recognizer says of settings that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest
from stand_ins import tiny_recognizer

import avsr
from avsr.errors import ConfigError
from avsr.recognizer import Recognizer


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """A small one."""
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modality": "lips"}, "'lips' is unknown; use 'av', 'audio' or 'video'"),
        ({"chunk_ms": "320"}, "'320' is not one that .* was trained for; use one of 160, 320, 640"),
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
def test_settings_that_cannot_be_meant_are_refused(engine: Recognizer, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        engine.stream(**settings)


@pytest.mark.parametrize("threads", [0, 1.5, "2"])
def test_threads_are_counted(engine: Recognizer, threads: Any) -> None:
    with pytest.raises(ConfigError, match="must be a whole number of 1 or more"):
        avsr.load_model(engine.bundle.path, threads=threads)
