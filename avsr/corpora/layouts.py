"""Corpora as their makers publish them: tables of ours, and the directories of GRID, LRS2 and LRS3."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from avsr.corpora.tables import COLUMNS, AlignedWord, Utterance, read_table
from avsr.errors import InputError


def read_corpus(source: Path) -> list[Utterance]:
    """Read a table, or a directory laid out as GRID, LRS2 or LRS3 are published.

    - GRID: ``.../s1/.../bbaf2n.mpg`` and ``.../s1/.../bbaf2n.align``, in any nesting; without an ``.align`` the text
      comes from the name. Speakers 1, 2, 20 and 22 are the split ``unseen``, as in LipNet (Assael et al. 2016); a
      twentieth of every other speaker's sentences is ``dev``, a twentieth ``test``.
    - LRS2: ``main/ID/NUMBER.mp4`` and ``.txt``, with ``train.txt``, ``val.txt`` (here: ``dev``), ``test.txt`` and
      ``pretrain.txt`` that list them.
    - LRS3: ``pretrain``, ``trainval`` and ``test``, each with ``ID/NUMBER.mp4`` and ``.txt``. Of ``trainval`` a
      twentieth of the speakers is ``dev``, since the corpus sets none aside; the others are ``train``.

    Of a directory, a clip whose transcript is missing or malformed has no text, and a ``problem`` that says so.

    Raises:
        InputError: it is none of these, lists no clip, or the table or a list of LRS2 is malformed.
    """
    if not source.is_dir():
        if listed := read_table(source):
            return listed
        raise InputError(f"{source}: lists no clip; give a line with the columns {', '.join(COLUMNS)} and one for each")
    if (source / "main").is_dir():
        utterances = list(_lrs2(source))
    elif any((source / part).is_dir() for part in LRS3_SPLITS):
        utterances = list(_lrs3(source))
    else:
        utterances = list(_grid(source))
    if not utterances:
        raise InputError(
            f"{source}: no clips lie there as in GRID (s1/bbaf2n.mpg), LRS2 (main/ID/00001.mp4) or LRS3 "
            "(trainval/ID/00001.mp4); give a table (.tsv) that lists them"
        )
    return utterances


Transcript = tuple[str, tuple[AlignedWord, ...]]
"""What is said, and when, where that is known."""
GRID_VIDEOS = {".mpg", ".mp4", ".avi", ".mov", ".mkv"}
GRID_UNSEEN = {1, 2, 20, 22}
GRID_TIMES_HZ = 25_000
"""Alignments count in samples at 25 kHz."""
GRID_SILENCES = {"sil", "sp"}
GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    {
        "z": "zero",
        "1": "one",
        "2": "two",
        "3": "three",
        "4": "four",
        "5": "five",
        "6": "six",
        "7": "seven",
        "8": "eight",
        "9": "nine",
    },
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
"""What each letter of a clip's name stands for."""
LRS2_SPLITS = {"train": "train", "val": "dev", "test": "test", "pretrain": "pretrain"}
LRS3_SPLITS = {"pretrain": "pretrain", "trainval": "train", "test": "test"}


def _grid(source: Path) -> Iterator[Utterance]:
    files = sorted(path for path in source.rglob("*") if path.is_file())
    alignments = {(_grid_speaker(path, source), path.stem): path for path in files if path.suffix == ".align"}
    seen: set[tuple[int | None, str]] = set()
    for path in files:
        speaker = _grid_speaker(path, source)
        text = _grid_text(path.stem)
        if path.suffix.lower() not in GRID_VIDEOS or speaker is None or text is None or (speaker, path.stem) in seen:
            continue
        seen.add((speaker, path.stem))  # the corpus comes in two qualities: one is enough
        read = partial(_grid_transcript, alignments.get((speaker, path.stem)), text)
        yield _utterance(path, f"s{speaker}", _grid_split(speaker, path.stem), read)


def _grid_speaker(path: Path, source: Path) -> int | None:
    names = [re.fullmatch(r"s(\d{1,2})(?:[._].*)?", part) for part in path.relative_to(source).parts[:-1]]
    return next((int(name[1]) for name in reversed(names) if name), None)


def _grid_text(stem: str) -> str | None:
    if len(stem) != len(GRID_WORDS) or any(letter not in known for letter, known in zip(stem, GRID_WORDS, strict=True)):
        return None
    return " ".join(known[letter] for letter, known in zip(stem, GRID_WORDS, strict=True))


def _grid_split(speaker: int, stem: str) -> str:
    if speaker in GRID_UNSEEN:
        return "unseen"
    return {0: "dev", 1: "test"}.get(zlib.crc32(f"s{speaker}/{stem}".encode()) % 20, "train")


def _grid_transcript(path: Path | None, named: str) -> Transcript:
    """Read an ``.align``; without one, return the text ``named`` by the clip's name, without times."""
    if path is None:
        return named, ()
    rows = [line.split() for line in _lines(path) if line.strip()]
    try:
        spans = [(word, int(start) / GRID_TIMES_HZ, int(end) / GRID_TIMES_HZ) for start, end, word in rows]
    except ValueError as error:
        raise InputError(f"{path}: a line is not START END WORD ({error})") from error
    words = tuple(AlignedWord(word, start_s, end_s) for word, start_s, end_s in spans if word not in GRID_SILENCES)
    if not words:
        raise InputError(f"{path}: lists no words; remove it to take them from the clip's name")
    return " ".join(word.text for word in words), _checked(words, path)


def _lrs2(source: Path) -> Iterator[Utterance]:
    lists = [(source / f"{name}.txt", split) for name, split in LRS2_SPLITS.items()]
    if not any(listed.exists() for listed, _ in lists):
        raise InputError(
            f"{source}: looks like LRS2, but {', '.join(path.name for path, _ in lists)} are missing; put them there"
        )
    for listed, split in lists:
        part = source / ("pretrain" if split == "pretrain" else "main")
        for line in _lines(listed) if listed.exists() else []:
            if line.strip():
                path = part / f"{line.split()[0]}.mp4"
                yield _utterance(path, path.parent.name, split, partial(_lrs_transcript, path.with_suffix(".txt")))


def _lrs3(source: Path) -> Iterator[Utterance]:
    for part, split in LRS3_SPLITS.items():
        for path in sorted((source / part).glob("*/*.mp4")):
            is_dev = part == "trainval" and zlib.crc32(path.parent.name.encode()) % 20 == 0
            read = partial(_lrs_transcript, path.with_suffix(".txt"))
            yield _utterance(path, path.parent.name, "dev" if is_dev else split, read)


def _lrs_transcript(notes: Path) -> Transcript:
    """Read the ``.txt`` beside a clip: ``Text:  WORDS``, other fields, and maybe a table of times."""
    lines = _lines(notes)
    said = [line.partition(":")[2] for line in lines if line.startswith("Text:")]
    if len(said) != 1:
        raise InputError(f"{notes}: has {len(said)} lines that begin with 'Text:'; it should have one")
    text = " ".join(re.sub(r"\{[^}]*\}", " ", said[0]).lower().split())  # {NS} and the like are noises
    head = next((row for row, line in enumerate(lines, start=1) if line.startswith("WORD START END")), len(lines))
    try:
        rows = [
            (word, float(start), float(end)) for word, start, end, *_ in map(str.split, filter(str.strip, lines[head:]))
        ]
    except ValueError as error:
        raise InputError(f"{notes}: a line is not WORD START END SCORE ({error})") from error
    words = _checked(tuple(AlignedWord(w.lower(), start_s, end_s) for w, start_s, end_s in rows if "{" not in w), notes)
    matches = [word.text for word in words] == text.split()
    return text, words if matches else ()


def _utterance(path: Path, speaker: str, split: str, read: Callable[[], Transcript]) -> Utterance:
    """Return the clip with its transcript from ``read``; one that cannot be read becomes a ``problem``, no error."""
    try:
        return Utterance(path, speaker, split, *read())
    except InputError as error:
        return Utterance(path, speaker, split, "", (), str(error))


def _checked(words: tuple[AlignedWord, ...], path: Path) -> tuple[AlignedWord, ...]:
    for word in words:
        if not 0 <= word.start_s <= word.end_s < math.inf:
            raise InputError(f"{path}: the times of {word.text!r} run backwards or never end")
    return words


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error
