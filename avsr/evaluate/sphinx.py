"""PocketSphinx, the recogniser of sound that anybody can have offline: its wheel carries a model of US English."""

from __future__ import annotations

import hashlib
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from avsr.errors import InputError, MissingExtraError, TextError
from avsr.types import SAMPLE_RATE, FloatArray

GRID = "grid"
GRID_GRAMMAR = Path(__file__).with_name("grid.jsgf")
SPELLED_LETTER = re.compile(r"\b([a-z])\.(?=\s|$)")
"""The dictionary writes a letter that is spelled out with a dot: "a." is the letter, "a" also the article."""


class PocketSphinx:
    """An `Adapter`. Each clip is normalised as a whole (batch CMN), which suits PocketSphinx best.

    Args:
        grammar: ``grid`` for the sentences of the GRID corpus, or a JSGF file; None for the n-gram model of the wheel.

    Raises:
        MissingExtraError: it is not installed.
        InputError: there is no such grammar.
        TextError: the grammar is not JSGF, or has a word that is not in the dictionary.
    """

    def __init__(self, grammar: str | None = None) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise MissingExtraError(
                "PocketSphinx is not installed; install it with: pip install 'avsr[bench]'"
            ) from error
        path = GRID_GRAMMAR if grammar == GRID else Path(grammar) if grammar else None
        self._version = version("pocketsphinx")
        self._search = "n-gram model en-us"
        options: dict[str, Any] = {}
        if path:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            except OSError as error:
                raise InputError(f"--grammar {grammar}: {error.strerror}; give a JSGF file, or {GRID}") from error
            self._search = f"grammar {path.name} {digest}"
            options = {"jsgf": str(path)}
        with tempfile.NamedTemporaryFile(suffix=".log") as log:
            try:
                self._decoder = pocketsphinx.Decoder(
                    samprate=SAMPLE_RATE, cmn="batch", loglevel="ERROR", logfn=log.name, **options
                )
            except RuntimeError as error:
                reason = Path(log.name).read_text(errors="replace").strip().rpartition(": ")[2] or error
                raise TextError(
                    f"--grammar {grammar}: PocketSphinx cannot use it: {reason}; "
                    "give JSGF with a public rule and with words of its dictionary (a letter that is spelled: a.)"
                ) from error

    def describe(self) -> str:
        """Name the version and what it searches."""
        return f"PocketSphinx {self._version}, acoustic model en-us, {self._search}"

    def transcribe(self, samples: FloatArray, video: Path | None) -> str:
        """Decode the sound, letters as letters ("a." as "a")."""
        if not len(samples):
            return ""
        pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return SPELLED_LETTER.sub(r"\1", found.hypstr) if found else ""
