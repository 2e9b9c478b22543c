"""PocketSphinx for comparison: it works on GRID, and clear messages say where it cannot be used."""

from __future__ import annotations

import json
import re
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

import avsr
from avsr.corpora import read_senses, read_table
from avsr.errors import InputError, MissingExtraError, TextError
from avsr.evaluate.sphinx import GRID_GRAMMAR, SPELLED_LETTER, PocketSphinx, SphinxAligner
from avsr.evaluate.wer import NO_ERRORS, word_errors
from avsr.types import FloatArray

DEMO = Path(avsr.__file__).parent / "talker" / "demo"
GRID_WORDS = (
    "bin lay place set blue green red white at by in with a b c d e f g h i j k l m n o p q r s t u v x y z "
    "zero one two three four five six seven eight nine again now please soon"
)


def test_the_grammar_has_the_words_of_the_corpus_and_no_others() -> None:
    rules = re.sub(r"//.*|#JSGF.*|<\w+>|grammar grid|public", "", GRID_GRAMMAR.read_text())
    words = [SPELLED_LETTER.sub(r"\1", word) for word in re.findall(r"[a-z]+\.?", rules)]
    assert sorted(words) == sorted(GRID_WORDS.split())


def test_every_word_is_in_its_dictionary_and_the_letter_a_is_no_article() -> None:
    pocketsphinx = pytest.importorskip("pocketsphinx")
    dictionary = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    sounds = dict(line.split(maxsplit=1) for line in dictionary.read_text().splitlines())
    for word in GRID_WORDS.split():
        assert (f"{word}." if len(word) == 1 else word) in sounds
    assert sounds["a."].strip() == "EY"
    assert "a.(2)" not in sounds


@pytest.fixture(scope="module")
def sphinx() -> PocketSphinx:
    pytest.importorskip("pocketsphinx")
    return PocketSphinx("grid")


def test_it_hears_grid_and_does_not_depend_on_what_came_before(sphinx: PocketSphinx, shared_data: Path) -> None:
    rows = islice((row for row in read_table(shared_data / "grid.tsv") if row.split == "dev"), 0, 30, 5)
    said, sounds = zip(*((row.text, read_senses(row.path, "audio").samples) for row in rows), strict=True)
    heard = [sphinx.transcribe(sound, None) for sound in sounds]
    assert sum(map(word_errors, said, heard), NO_ERRORS).rate <= 0.3
    assert [sphinx.transcribe(sound, None) for sound in sounds[2::-1]] == heard[2::-1]
    assert set(" ".join(heard).split()) <= set(GRID_WORDS.split())
    # Of these, the last shows it.
    rows = islice((row for row in read_table(shared_data / "grid.tsv") if row.split == "unseen"), 4, 8)
    strange = [read_senses(row.path, "audio").samples for row in rows]
    alone = [PocketSphinx("grid").transcribe(sound, None) for sound in strange]
    assert [sphinx.transcribe(sound, None) for sound in strange] == alone


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(80), np.zeros(16_000), np.full(16_000, 5.0)])
def test_nothing_is_heard_in_nothing(samples: FloatArray, sphinx: PocketSphinx) -> None:
    assert sphinx.transcribe(samples.astype(np.float32), None) == ""


def test_it_says_which_version_and_grammar(sphinx: PocketSphinx, tmp_path: Path) -> None:
    other = tmp_path / "mine.jsgf"
    other.write_text("#JSGF V1.0;\ngrammar mine;\npublic <word> = yes | no;\n")
    assert re.fullmatch(r"PocketSphinx [\d.]+, acoustic model en-us, grammar grid\.jsgf \w{16}", sphinx.describe())
    assert "mine.jsgf" in PocketSphinx(str(other)).describe()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("#JSGF V1.0;\ngrammar g;\npublic <word> = yes | zorkblat;\n", "zorkblat"),
        ("#JSGF V1.0;\ngrammar g;\n<word> = yes;\n", "public"),
        ("", "grammar"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_with_the_reason(content: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    path = tmp_path / "g.jsgf"
    path.write_text(content)
    with pytest.raises(TextError, match=message) as caught:
        PocketSphinx(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_grammar_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    with pytest.raises(InputError, match="--grammar"):
        PocketSphinx(str(tmp_path / "none.jsgf"))


@pytest.fixture(scope="module")
def aligner() -> SphinxAligner:
    pytest.importorskip("pocketsphinx")
    return SphinxAligner()


def test_it_finds_when_the_words_of_a_clip_are_said(aligner: SphinxAligner) -> None:
    """The talker tells its own times."""
    clip = json.loads((DEMO / "bin_blue.json").read_text())["words"]
    samples = read_senses(DEMO / "bin_blue.mp4", "audio").samples
    found = aligner.align(samples, "Bin blue at F two now, place red by K nine please.")
    assert [word.text for word in found] == [word["text"] for word in clip]
    starts = np.array([word.start_s for word in found]) - [word["start"] for word in clip]
    ends = np.array([word.end_s for word in found]) - [word["end"] for word in clip]
    assert np.median(np.abs(starts)) <= 0.06
    assert np.median(np.abs(ends)) <= 0.06
    assert all(before.end_s <= after.start_s for before, after in pairwise(found))
    assert found[-1].end_s <= len(samples) / 16_000
    assert aligner.align(samples, "bin blue at f two now place red by k nine please") == found


def test_it_finds_them_in_real_speech(aligner: SphinxAligner, shared_data: Path) -> None:
    rows = list(islice((row for row in read_table(shared_data / "grid.tsv") if row.split == "dev"), 0, 60, 10))
    found = [aligner.align(read_senses(row.path, "audio").samples, row.text) for row in rows]
    assert [" ".join(word.text for word in words) for words in found] == [row.text for row in rows]
    pairs = [pair for words, row in zip(found, rows, strict=True) for pair in zip(words, row.words, strict=True)]
    apart_s = [(abs(ours.start_s - told.start_s), abs(ours.end_s - told.end_s)) for ours, told in pairs]
    assert np.median(apart_s) <= 0.04
    assert np.quantile(apart_s, 0.9) <= 0.12


def test_times_do_not_depend_on_what_was_aligned_before(aligner: SphinxAligner) -> None:
    samples = read_senses(DEMO / "bin_blue.mp4", "audio").samples
    text = "bin blue at f two now place red by k nine please"
    alone = SphinxAligner().align(samples, text)
    assert alone
    for before in (np.random.default_rng(1).normal(0, 0.3, 48_000).astype(np.float32), samples[::-1].copy()):
        aligner.align(before, "lay green")
        assert aligner.align(samples, text) == alone


@pytest.mark.parametrize("text", ["", "...", "bin zorkblat", "one " * 2000, "été 7"])
def test_a_text_that_cannot_be_found_has_no_times(text: str, aligner: SphinxAligner) -> None:
    samples = read_senses(DEMO / "bin_blue.mp4", "audio").samples
    assert aligner.align(samples, text) == ()


@pytest.mark.parametrize("num_samples", [0, 80, 3200])
def test_nothing_is_found_in_next_to_nothing(num_samples: int, aligner: SphinxAligner) -> None:
    assert aligner.align(np.zeros(num_samples, np.float32), "bin blue at f two now please") == ()


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtraError, match=r"avsr\[bench\]"):
        PocketSphinx("grid")
    with pytest.raises(MissingExtraError, match=r"avsr\[bench\]"):
        SphinxAligner()
