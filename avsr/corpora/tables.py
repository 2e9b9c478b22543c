"""Corpora as tables: ``*.tsv`` files with the columns ``path speaker split seconds text words`` beside their media.

``words`` is ``word:start-end`` in seconds, separated by spaces; it may be empty, as may ``text``. ``seconds`` is the
length of the clip, to detect files that were cut off in copying; the cell may be empty, or the column absent.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avsr.decode.tokenizer import normalise_text
from avsr.errors import InputError

BABBLE_TABLE, BABBLE_SPLIT = "speech.tsv", "babble"
NOISE_TABLE = "noise.tsv"
COLUMNS = ("path", "speaker", "split", "text", "words")
SHORT_BY_S = 0.2
"""Tolerance for codecs and rounding; a clip that is shorter by more was cut off."""
ROUNDING_S = 1e-6
TAKE = re.compile(r"(?<=\d)-[A-Z](-\d+)?$")
"""How ESC-50 ends the names of the takes of one recording: 1-22694-A-20, 1-22694-B-20."""


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A spoken word and its seconds from the start of the clip."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """A row of a table; ``path`` is where the media file is; ``problem`` says why its transcript cannot be used.

    ``seconds`` is the length that the corpus states, None if it does not, and ``rounding_s`` the precision of that.
    """

    path: Path
    speaker: str
    split: str
    text: str
    words: tuple[AlignedWord, ...]
    problem: str | None = None
    seconds: float | None = None
    rounding_s: float = 0.0

    def shortfall(self, duration_s: float) -> str | None:
        """Return a message if a file of ``duration_s`` is too short for this clip, else None."""
        if self.seconds is None or duration_s >= self.seconds - max(SHORT_BY_S, self.rounding_s):
            return None
        return f"{self.path} ends after {duration_s:.1f} s of the {self.seconds:.1f} s that its table states"


def read_table(table: Path) -> list[Utterance]:
    """Read every row.

    Raises:
        InputError: the table is missing, lacks a column, or has a row without a path or with malformed times.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin it with a byte-order mark
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as a table of utterances: {error}") from error
    missing = [column for column in COLUMNS if rows and column not in rows[0][1]]
    if missing:
        raise InputError(f"{table}: lacks the column(s) {', '.join(missing)}")
    return [_utterance(row, table, f"{table}:{line}") for line, row in rows]


def of_split(utterances: Sequence[Utterance], split: str | None, where: Path) -> list[Utterance]:
    """Return those of ``split`` (None: all).

    Raises:
        InputError: there are none in ``where``.
    """
    chosen = [utterance for utterance in utterances if split is None or utterance.split == split]
    if not chosen:
        splits = ", ".join(sorted({utterance.split for utterance in utterances})) or "none"
        raise InputError(f"{where}: no clip is in the split {split!r}; its splits are: {splits}")
    return chosen


def _utterance(row: dict[str, str | None], table: Path, where: str) -> Utterance:
    path, speaker, split = row["path"], row["speaker"], row["split"]
    if not path or speaker is None or split is None:  # the other cells may be left out at the end of a line
        raise InputError(f"{where}: lacks a path, or has fewer cells than path, speaker and split need")
    words = parse_alignment(row["words"] or "", where)
    seconds = _seconds(row.get("seconds") or "", where)
    rounding_s = 10.0 ** -len((row.get("seconds") or "").strip().partition(".")[2])
    return Utterance(
        table.parent / path, speaker, split, row["text"] or "", words, seconds=seconds, rounding_s=rounding_s
    )


def _seconds(text: str, where: str) -> float | None:
    if not text.strip():
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"{where}: {text!r} is no length in seconds; correct it, or leave it empty")
    return seconds


def parse_alignment(text: str, where: str) -> tuple[AlignedWord, ...]:
    """Parse ``word:start-end`` items separated by spaces.

    Raises:
        InputError: an item is malformed or its times run backwards; ``where`` names the place.
    """
    words = []
    for item in text.split():
        word, _, span = item.rpartition(":")
        start, _, end = span.partition("-")
        try:
            aligned = AlignedWord(word, float(start), float(end))
        except ValueError as error:
            raise InputError(f"{where}: {item!r} is not word:start-end in seconds") from error
        if not word or not 0 <= aligned.start_s <= aligned.end_s < math.inf:
            raise InputError(f"{where}: {item!r} has no word, or times that run backwards or never end")
        words.append(aligned)
    return tuple(words)


def are_timed(words: Sequence[AlignedWord], text: str, duration_s: float) -> bool:
    """Tell whether ``words`` are those of ``text``, in order, and all in a clip of ``duration_s``.

    If only some of the words had times, the others would count as never spoken.
    """
    starts_s, ends_s = [word.start_s for word in words], [word.end_s for word in words]
    is_in_order = starts_s == sorted(starts_s) and ends_s == sorted(ends_s)
    is_inside = max(ends_s, default=0.0) <= duration_s + ROUNDING_S
    return is_in_order and is_inside and normalise_text(" ".join(word.text for word in words)) == normalise_text(text)


def name_in(root: Path, path: Path) -> str:
    """Name a file of a corpus by its path in ``root``, so that its name is the same wherever the corpus lies."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def noise_files(data: Path) -> tuple[list[Path], list[Path]]:
    """Return the babble voices and noise recordings for training: every other one in the tables.

    Adding rows to the tables may change which ones.
    """
    voices, noises = ([path for path, _ in files[::2]] for files in _listed(data))
    return voices, noises


def noise_seen_in_training(data: Path) -> set[Path]:
    """Return, as resolved paths, the training noise, and all files of the same voices and recordings."""
    unfit: set[Path] = set()
    for files in _listed(data):
        known = {source for _, source in files[::2]}
        unfit |= {path.resolve() for path, source in files if source in known}
    return unfit


def _listed(data: Path) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Return the voices and the noises in order, each file with its source: who speaks, or which recording it is."""
    voices = [(u.path, u.speaker or u.path.stem) for u in read_table(data / BABBLE_TABLE) if u.split == BABBLE_SPLIT]
    noises = [(u.path, TAKE.sub("", u.path.stem)) for u in read_table(data / NOISE_TABLE)]
    return sorted(voices), sorted(noises)
