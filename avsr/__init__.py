"""Streaming audio-visual speech recognition: captions that listen and read lips.

model = avsr.load_model()
print(model.transcribe("talk.mp4").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsr.decode.arpa import read_arpa
    from avsr.decode.hotwords import Hotword
    from avsr.decode.lm import WordLm
    from avsr.errors import AvsrError
    from avsr.recognizer import Recognizer, load_model
    from avsr.stream import Stream
    from avsr.types import Caption, Modality, Transcript, Word

__version__ = "0.6.0"

__all__ = [
    "AvsrError",
    "Caption",
    "Hotword",
    "Modality",
    "Recognizer",
    "Stream",
    "Transcript",
    "Word",
    "WordLm",
    "__version__",
    "load_model",
    "read_arpa",
]

_HOMES = {
    "AvsrError": "avsr.errors",
    "Caption": "avsr.types",
    "Hotword": "avsr.decode.hotwords",
    "Modality": "avsr.types",
    "Recognizer": "avsr.recognizer",
    "Stream": "avsr.stream",
    "Transcript": "avsr.types",
    "Word": "avsr.types",
    "WordLm": "avsr.decode.lm",
    "load_model": "avsr.recognizer",
    "read_arpa": "avsr.decode.arpa",
}
"""Where each name lives; looked up when it is first used, so that ``import avsr`` does not wait for torch."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'avsr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
