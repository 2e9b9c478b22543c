"""Text to CTC token ids and back: a SentencePiece model whose id 0 is the blank."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable

import sentencepiece

from avsr.errors import InputError, TextError

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
"""Letters that every trained tokenizer can spell."""
WORD_MARK = "▁"
"""SentencePiece's sign for the space before a word (U+2581)."""
BLANK_ID = 0
UNKNOWN_ID = 1

NO_INVISIBLE = str.maketrans("", "", "\u00ad\u061c\u200c\u200d\u200e\u200f\u2060\ufeff")
"""Removes invisible characters inside words: soft hyphens, joiners (as in Persian) and direction marks."""

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
_NOT_WORD = re.compile(r"[^\w\s']+|_")
_EDGE_APOSTROPHE = re.compile(r"(?<!\w)'+|'+(?!\w)")


class Tokenizer:
    """Turns normalised text into token ids and back.

    ``model`` is a SentencePiece model, as `train_tokenizer` makes it.

    Raises:
        InputError: it cannot be read, or its id 0 is not the blank.
    """

    blank_id: int = BLANK_ID

    def __init__(self, model: bytes) -> None:
        if not model:  # SentencePiece accepts empty bytes, and fails only when it is used
            raise InputError("the tokenizer model is empty; give the bytes that avsr.decode.train_tokenizer returned")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            num_pieces = self._processor.vocab_size()
        except (OSError, RuntimeError) as error:
            raise InputError(f"the tokenizer model cannot be read as a SentencePiece model: {error}") from error
        self.pieces: tuple[str, ...] = tuple(self._processor.id_to_piece(i) for i in range(num_pieces))
        if not self.pieces or self._processor.pad_id() != BLANK_ID:
            raise InputError(
                f"the tokenizer model keeps no blank at id {BLANK_ID}; make it with avsr.decode.train_tokenizer"
            )
        self._word_starts = tuple(piece.startswith(WORD_MARK) for piece in self.pieces)

    @property
    def vocab_size(self) -> int:
        """Pieces, the blank and the unknown among them: the width of the network's output."""
        return len(self.pieces)

    @property
    def unknown_id(self) -> int:
        """The piece that stands for what cannot be spelled; `encode` never gives it."""
        return int(self._processor.unk_id())

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` after `normalise_text`.

        Raises:
            TextError: a character that no piece can spell.
        """
        normalised = normalise_text(text)
        ids: list[int] = self._processor.encode(normalised)
        if self.unknown_id in ids:
            known = set("".join(self.pieces))
            missing = " ".join(sorted({c for c in normalised if c != " " and c not in known}))
            raise TextError(
                f"{text!r} cannot be spelled by this tokenizer: it has no piece for {missing}; write it out"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, words joined by single spaces; blanks and unknowns are skipped."""
        silent = (self.blank_id, self.unknown_id)
        return " ".join("".join(self.pieces[i] for i in ids if i not in silent).replace(WORD_MARK, " ").split())

    def is_word_start(self, token: int) -> bool:
        """Say whether a new word begins with this piece."""
        return self._word_starts[token]


def train_tokenizer(lines: Iterable[str], vocab_size: int) -> bytes:
    """Return the bytes of a SentencePiece model learned from ``lines``, normalised first; the same bytes every time.

    Every letter of `ALPHABET` gets a piece of its own, so that unseen words can be spelled.

    Raises:
        InputError: no text in ``lines``, or SentencePiece cannot make that many, or that few, pieces of it.
    """
    texts = [text for text in map(normalise_text, lines) if text]
    if not texts:
        raise InputError("a tokenizer cannot be trained on no text: every line is empty")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            required_chars=ALPHABET,
            character_coverage=1.0,
            normalization_rule_name="identity",
            pad_id=BLANK_ID,
            pad_piece="<blank>",
            unk_id=UNKNOWN_ID,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"a tokenizer of {vocab_size} pieces cannot be made of this text: {error}") from error
    return model.getvalue()


def normalise_text(text: str) -> str:
    """Return ``text`` as the engine writes it: lower case, single spaces, apostrophes inside words, no punctuation.

    Digits stay digits: whether "2" is said "two" or "second" is for whoever prepares the text.
    """
    # Lower-casing may add combining marks, which must be normalised again.
    plain = unicodedata.normalize("NFKC", text).translate(NO_INVISIBLE).lower()
    plain = unicodedata.normalize("NFC", plain).translate(_APOSTROPHES)
    spaced = _NOT_WORD.sub(_marks_alone, plain)
    return " ".join(_EDGE_APOSTROPHE.sub(" ", spaced).split())


def _marks_alone(found: re.Match[str]) -> str:
    """Keep the combining marks of the letter before, as Hindi and Thai write vowels; all else becomes a space."""
    text, start, end = found.string, *found.span()
    if start and text[start - 1].isalnum():
        while start < end and unicodedata.category(text[start])[0] == "M":
            start += 1
    return text[found.start() : start] + (" " if start < end else "")
