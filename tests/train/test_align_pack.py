"""Aligning a pack: what has no times gets them, what has keeps its own, and a kill loses little."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from toy_clips import encode_once

import avsr
from avsr.corpora import AlignedWord, Utterance
from avsr.errors import InputError
from avsr.evaluate.sphinx import SphinxAligner
from avsr.train.packs import align as module
from avsr.train.packs import prepare as preparing
from avsr.train.packs import workers
from avsr.train.packs.align import align
from avsr.train.packs.prepare import prepare
from avsr.train.packs.reader import Clip, PreparedCorpus

one_aligner = cache(SphinxAligner)
DEMO = Path(avsr.__file__).parent / "talker" / "demo"
SAID = "Bin blue at f two now, place red by k nine please"
TOLD = (AlignedWord("bin", 0.1, 0.2),)


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pocketsphinx")
    monkeypatch.setattr(workers, "open_executor", lambda jobs: ThreadPoolExecutor(1))
    monkeypatch.setattr(preparing, "encode", encode_once)
    monkeypatch.setattr(module, "SphinxAligner", one_aligner)
    monkeypatch.setattr(module, "_open", module._open.__wrapped__)  # packs of other tests have other clips


def utterance(text: str, split: str, words: tuple[AlignedWord, ...] = ()) -> Utterance:
    return Utterance(DEMO / "bin_blue.mp4", "s", split, text, words)


def pack_of(directory: Path, utterances: Sequence[Utterance]) -> dict[str, Clip]:
    prepare(utterances, DEMO, directory)
    return clips_of(directory)


def clips_of(directory: Path) -> dict[str, Clip]:
    return {clip.split: clip for clip in PreparedCorpus(directory).clips}


UTTERANCES = (
    utterance(SAID, "untold"),
    utterance("bin", "told", TOLD),
    utterance("bin zorkblat", "unknown"),
    utterance("", "silent"),
)
MISSED = [("bin_blue.mp4", "a word is not in the dictionary, or not what is said")]


def test_what_has_no_times_gets_them_and_nothing_else_changes(tmp_path: Path) -> None:
    before = pack_of(tmp_path, UTTERANCES)
    seen: list[tuple[int, int]] = []
    assert align(tmp_path, on_progress=lambda done, total: seen.append((done, total))) == (1, MISSED)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    after = clips_of(tmp_path)
    assert [word.text for word in after["untold"].words] == SAID.lower().replace(",", "").split()
    assert {split: after[split] for split in ("told", "unknown", "silent")} == {
        split: before[split] for split in ("told", "unknown", "silent")
    }
    assert after["told"].words == TOLD
    corpus = PreparedCorpus(tmp_path)
    assert corpus.load(after["untold"]).audio.any()
    assert align(tmp_path) == (0, MISSED)


def test_times_stay_when_the_corpus_is_prepared_again_unless_it_says_otherwise(tmp_path: Path) -> None:
    pack_of(tmp_path, UTTERANCES)
    align(tmp_path)
    found = clips_of(tmp_path)["untold"].words
    assert pack_of(tmp_path, UTTERANCES)["untold"].words == found
    assert pack_of(tmp_path, [utterance("bin", "untold", TOLD)])["untold"].words == TOLD
    assert pack_of(tmp_path, [utterance("lay blue", "untold")])["untold"].words == ()


def test_times_of_the_corpus_that_no_clip_can_have_are_none(tmp_path: Path) -> None:
    utterances = [utterance(SAID, "untold", TOLD)]
    assert pack_of(tmp_path, utterances)["untold"].words == ()
    align(tmp_path)
    found = clips_of(tmp_path)["untold"].words
    assert len(found) == 12
    assert pack_of(tmp_path, utterances)["untold"].words == found


@pytest.mark.parametrize("keep_every", [1, 500])
def test_what_was_found_before_a_stop_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_every: int) -> None:
    monkeypatch.setattr(module, "KEEP_EVERY", keep_every)
    pack_of(tmp_path, [utterance(SAID, split) for split in "abc"])
    kept: list[int] = []

    def stop(num_done: int, total: int) -> None:
        kept.append(num_timed(tmp_path))
        if num_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(tmp_path, on_progress=stop)
    assert kept == ([0, 1, 2] if keep_every == 1 else [0, 0, 0])  # what a kill at that moment would leave
    assert num_timed(tmp_path) == 2
    assert align(tmp_path) == (1, [])
    assert num_timed(tmp_path) == 3


def num_timed(directory: Path) -> int:
    return sum(bool(clip.words) for clip in PreparedCorpus(directory).clips)


def test_a_pack_whose_shards_are_not_there_is_left_as_it_is(tmp_path: Path) -> None:
    pack_of(tmp_path, UTTERANCES)
    shard = tmp_path / "shard-00000.bin"
    whole = shard.read_bytes()
    for left in (b"", whole[:99]):
        shard.write_bytes(left)
        with pytest.raises(InputError, match=r"lack 4 of its 4 clips"):
            align(tmp_path)
    shard.write_bytes(whole)
    assert align(tmp_path) == (1, MISSED)


def test_a_clip_that_is_damaged_or_ends_its_process_costs_no_other_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_of(tmp_path, [utterance(SAID, split) for split in "abc"])
    sound = PreparedCorpus.sound

    def broken(corpus: PreparedCorpus, clip: Clip) -> object:
        if clip.split == "a":
            raise InputError("damaged")
        if clip.split == "b":
            raise BrokenExecutor
        return sound(corpus, clip)

    monkeypatch.setattr(PreparedCorpus, "sound", broken)
    num_found, missed = align(tmp_path)
    assert num_found == 1
    assert sorted(missed) == [
        ("bin_blue.mp4", "damaged"),
        ("bin_blue.mp4", "the process that aligned it was ended"),
    ]
    assert clips_of(tmp_path)["c"].words


def test_nothing_to_align_and_no_pack(tmp_path: Path) -> None:
    pack_of(tmp_path / "told", [UTTERANCES[1]])
    assert align(tmp_path / "told") == (0, [])
    with pytest.raises(InputError, match="not a pack"):
        align(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_processes_of_their_own_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_of(tmp_path / "a", UTTERANCES)
    pack_of(tmp_path / "b", UTTERANCES)
    align(tmp_path / "a")
    monkeypatch.undo()
    align(tmp_path / "b", jobs=2)
    assert clips_of(tmp_path / "a") == clips_of(tmp_path / "b")
