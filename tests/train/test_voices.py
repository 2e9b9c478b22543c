"""Synthetic speakers: their sentences are in a table with their words, the same every time, and made once."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_clips import make_clip, write_pack
from toy_recipe import recipe_of

from avsr.corpora import read_table
from avsr.disk import lock
from avsr.errors import InputError
from avsr.talker import VOICES
from avsr.train import gather, talkers
from avsr.train.packs import workers
from avsr.train.packs.reader import PreparedCorpus
from avsr.train.talkers import make_voices, readable_sentences
from avsr.types import SAMPLE_RATE

pytestmark = pytest.mark.skipif(
    not (ctypes.util.find_library("espeak-ng") and ctypes.util.find_library("flite")),
    reason="espeak-ng and flite are not installed (apt-get install espeak-ng flite)",
)
NUM_CLIPS = 6


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voices(tmp_path_factory.mktemp("voices"), NUM_CLIPS, seed=1)


def test_every_sentence_is_in_the_table_with_its_words(table: Path) -> None:
    utterances = read_table(table)
    assert len(utterances) == len({utterance.path for utterance in utterances}) == NUM_CLIPS
    for utterance in utterances:
        assert utterance.split == "train"
        assert utterance.speaker.removeprefix("talker-") in VOICES
        assert [word.text for word in utterance.words] == utterance.text.split()
        assert len(utterance.words) == 6
        with wave.open(str(utterance.path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        first, last = (round(at * SAMPLE_RATE) for at in (utterance.words[0].start_s, utterance.words[-1].end_s))
        assert 0 < first < last < len(samples)
        inside, before = samples[first:last], samples[: first - SAMPLE_RATE // 10]
        assert np.sqrt(np.mean(inside**2)) > 10 * np.sqrt(np.mean(before**2))


def test_voices_read_a_text_and_pass_over_what_is_not_read_as_it_is_spelled(tmp_path: Path) -> None:
    text = ["Printing, in the only sense!", "in 1792", "caf\u00e9 life", "", "word " * 40, "don't go (now)"]
    said = read_table(make_voices(tmp_path, 4, seed=1, sentences=readable_sentences(text)))
    assert {utterance.text for utterance in said} == {"printing in the only sense", "don't go now"}
    for utterance in said:
        assert [word.text for word in utterance.words] == utterance.text.split()


def test_half_of_the_sentences_are_said_by_the_natural_voices() -> None:
    rng = np.random.default_rng(0)
    engines = [VOICES[talkers._choose_natural(rng)].engine for _ in range(400)]
    assert engines.count("flite") / len(engines) == pytest.approx(0.5, abs=0.08)


def test_the_same_seed_makes_the_same_sentences_and_another_seed_others(table: Path, tmp_path: Path) -> None:
    again = make_voices(tmp_path / "again", 2, seed=1)
    assert again.read_text().splitlines() == table.read_text().splitlines()[:3]
    for name in ("0000.wav", "0001.wav"):
        assert (again.parent / "clips" / name).read_bytes() == (table.parent / "clips" / name).read_bytes()
    other = make_voices(tmp_path / "other", 2, seed=2)
    assert other.read_text() != again.read_text()


def test_what_is_made_is_not_made_again_and_what_is_half_made_is_finished(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, num_made = talkers._record, 0

    def die_at_the_second(*args: object) -> object:
        nonlocal num_made
        num_made += 1
        if num_made == 2:
            raise KeyboardInterrupt
        return record(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(talkers, "_record", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_voices(tmp_path, 2, seed=1)
    assert not (tmp_path / "voices.tsv").exists()
    made = make_voices(tmp_path, 2, seed=1)
    assert made.read_text().splitlines() == table.read_text().splitlines()[:3]
    assert num_made == 3, "the clip that was there before the kill is made once"
    num_made = 1
    assert make_voices(tmp_path, 2, seed=1) == made  # it would die if it made one


def test_more_sentences_are_added_to_those_there_are_and_none_is_thrown_away(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = table.read_text().splitlines()
    assert make_voices(tmp_path, 2, seed=1).read_text().splitlines() == lines[:3]
    (tmp_path / "voices.partial").write_text("\n".join([*lines[:3], lines[3][:9]]))  # a row torn by a power cut
    assert make_voices(tmp_path, 3, seed=1).read_text().splitlines() == lines[:4]
    monkeypatch.setattr(talkers, "_record", lambda *args: pytest.fail("nothing is to be made"))
    assert make_voices(tmp_path, 1, seed=1).read_text().splitlines() == lines[:4]
    (tmp_path / "voices.partial").write_text("\n".join([*lines[:6], ""]))  # more was asked for, and killed
    assert make_voices(tmp_path, 4, seed=1).read_text().splitlines() == lines[:6]


DYING = """
import os, sys
from pathlib import Path
from avsr.train import talkers
record, left = talkers._record, int(sys.argv[2])
def until_killed(*args):
    global left
    if not left:
        os._exit(9)
    left -= 1
    return record(*args)
talkers._record = until_killed
talkers.make_voices(Path(sys.argv[1]), 6, seed=1)
"""


def test_no_kill_loses_what_was_made(table: Path, tmp_path: Path) -> None:
    for num_more, num_made in ((2, 2), (0, 2), (3, 5)):
        killed = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), str(num_more)], timeout=60)
        assert killed.returncode == 9
        assert len((tmp_path / "voices.partial").read_text().splitlines()) == 1 + num_made
    assert make_voices(tmp_path, NUM_CLIPS, seed=1).read_text() == table.read_text()


def test_two_processes_never_make_the_same_clips(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(InputError, match="another process"):
        make_voices(tmp_path, 1, seed=1)


def test_a_recipe_prepares_its_voices_as_sound_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "open_executor", ThreadPoolExecutor)
    clip, data = make_clip(["bin"], 0)
    (tmp_path / "toy.tsv").write_text(
        "path\tspeaker\tsplit\tseconds\ttext\twords\nclip.mp4\ts\ttrain\t1\tbin\t\nclip.mp4\ts\tdev\t1\tbin\t\n"
    )
    work = tmp_path / "work"
    write_pack(work / "corpus", [(replace(clip, path="clip.mp4"), data)])
    (tmp_path / "text").mkdir()
    recipe = recipe_of(num_voices=2, voice_texts=["text/some.txt"], fusion={"epochs": 1})
    with pytest.raises(InputError, match=r"some\.txt"):
        gather.gather_packs(recipe, tmp_path, work)
    for unreadable in ("", "In 1792.\n", f"{'word ' * 40}\n"):
        (tmp_path / "text/some.txt").write_text(unreadable)
        with pytest.raises(InputError, match=r"some\.txt.*none can be read"):
            gather.gather_packs(recipe, tmp_path, work)
    (tmp_path / "text/some.txt").write_text("Four more words here.\n")
    packs = gather.gather_packs(recipe, tmp_path, work)
    corpus = PreparedCorpus(packs["voices"])
    assert len(corpus.select("train")) == 2
    for clip in corpus.clips:
        assert clip.text == "four more words here"
        assert len(clip.words) == 4
        read = corpus.load(clip)
        assert read.heard[:-1].all()  # the last tick is whole by chance only
        assert not read.visible.any()
