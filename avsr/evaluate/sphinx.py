"""PocketSphinx, whose wheel contains a model of US English: a recogniser to compare with, and a forced aligner."""

from __future__ import annotations

import hashlib
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from avsr.corpora import AlignedWord
from avsr.decode.tokenizer import normalise_text
from avsr.errors import InputError, MissingExtraError, TextError
from avsr.types import SAMPLE_RATE, FloatArray

GRID = "grid"
GRID_GRAMMAR = Path(__file__).with_name("grid.jsgf")
SPELLED_LETTER = re.compile(r"\b([a-z])\.(?=\s|$)")
"""The dictionary writes a letter that is spelled out with a dot: "a." is the letter, "a" also the article."""

FRAMES_PER_S = 100
MIN_WORD_S = 0.03
"""Shortest possible word: a text with more words than fit cannot be what is said."""
_PRONUNCIATION = re.compile(r"\(\d+\)$")
"""The dictionary's mark of a word's second and further pronunciations."""
_NO_WORD = ("<", "[")
"""How silences, breaths and noises begin."""


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
        pocketsphinx = require_pocketsphinx()
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
        self._decoder.reinit_feat()  # what was heard before must not matter
        _decode(self._decoder, samples)
        found = self._decoder.hyp()
        return SPELLED_LETTER.sub(r"\1", found.hypstr) if found else ""


class SphinxAligner:
    """Finds when each word of a text that is known is said (forced alignment), in English.

    Raises:
        MissingExtraError: it is not installed.
    """

    def __init__(self) -> None:
        # The text leaves no choice: wide beams cost little, and find the way through noise and odd voices.
        beams = dict.fromkeys(("beam", "wbeam", "pbeam"), 1e-60)
        self._decoder = require_pocketsphinx().Decoder(
            samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL", lm=None, **beams
        )

    def align(self, samples: FloatArray, text: str) -> tuple[AlignedWord, ...]:
        """Return the words of ``text``, normalised, and when they are said in ``samples`` f32 (n,) at 16 kHz.

        Empty if a word is not in the dictionary or no alignment is found. Success is no proof that the text is right: a
        wrong text of about the right length is often aligned, too.
        """
        words = normalise_text(text).split()
        if not words or len(samples) < SAMPLE_RATE * MIN_WORD_S * len(words):
            return ()
        try:
            self._decoder.set_align_text(" ".join(f"{word}." if _is_spelled(word) else word for word in words))
        except RuntimeError:
            return ()
        self._decoder.reinit_feat()  # what was aligned before must not matter
        _decode(self._decoder, samples)
        if self._decoder.hyp() is None:
            return ()
        found, duration_s = [], len(samples) / SAMPLE_RATE
        for segment in self._decoder.seg():
            word = _PRONUNCIATION.sub("", segment.word)
            if not word.startswith(_NO_WORD):
                end_s = min(duration_s, (segment.end_frame + 1) / FRAMES_PER_S)
                found.append(AlignedWord(word.rstrip("."), segment.start_frame / FRAMES_PER_S, end_s))
        return tuple(found) if [word.text for word in found] == words else ()


def require_pocketsphinx() -> Any:
    """Return the module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pocketsphinx
    except ImportError as error:
        raise MissingExtraError("PocketSphinx is not installed; install it with: pip install 'avsr[bench]'") from error
    return pocketsphinx


def _decode(decoder: Any, samples: FloatArray) -> None:
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _is_spelled(word: str) -> bool:
    return len(word) == 1 and word not in "ai"
