"""Aligning a pack: what has no times gets them, what has keeps its own, and a kill loses little."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

import avsr
from avsr.corpora import AlignedWord, Utterance
from avsr.errors import InputError
from avsr.train.packs import align as module
from avsr.train.packs import prepare as preparing
from avsr.train.packs.align import align
from avsr.train.packs.prepare import prepare
from avsr.train.packs.prepared import Clip, PreparedCorpus

DEMO = Path(avsr.__file__).parent / "talker" / "demo"
SAID = "Bin blue at f two now, place red by k nine please"
TOLD = (AlignedWord("bin", 0.1, 0.2),)


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pocketsphinx")
    monkeypatch.setattr(preparing, "open_executor", ThreadPoolExecutor)
    monkeypatch.setattr(module, "open_executor", lambda jobs: ThreadPoolExecutor(1))
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


def test_what_has_no_times_gets_them_and_nothing_else_changes(tmp_path: Path) -> None:
    before = pack_of(tmp_path, UTTERANCES)
    seen: list[tuple[int, int]] = []
    assert align(tmp_path, on_progress=lambda done, total: seen.append((done, total))) == (1, ["bin_blue.mp4"])
    assert seen == [(0, 2), (1, 2), (2, 2)]
    after = clips_of(tmp_path)
    assert [word.text for word in after["untold"].words] == SAID.lower().replace(",", "").split()
    assert {split: after[split] for split in ("told", "unknown", "silent")} == {
        split: before[split] for split in ("told", "unknown", "silent")
    }
    assert after["told"].words == TOLD
    corpus = PreparedCorpus(tmp_path)
    assert corpus.load(after["untold"]).audio.any()
    assert align(tmp_path) == (0, ["bin_blue.mp4"])


def test_times_stay_when_the_corpus_is_prepared_again_unless_it_says_otherwise(tmp_path: Path) -> None:
    pack_of(tmp_path, UTTERANCES)
    align(tmp_path)
    found = clips_of(tmp_path)["untold"].words
    assert pack_of(tmp_path, UTTERANCES)["untold"].words == found
    assert pack_of(tmp_path, [utterance("bin", "untold", TOLD)])["untold"].words == TOLD
    assert pack_of(tmp_path, [utterance("lay blue", "untold")])["untold"].words == ()


def test_what_was_found_before_a_stop_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_of(tmp_path, UTTERANCES)

    def stop(done: int, total: int) -> None:
        if clip_is_done:
            raise KeyboardInterrupt
        clip_is_done.append(done)

    clip_is_done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        align(tmp_path, on_progress=stop)
    assert len(PreparedCorpus(tmp_path).clips) == len(UTTERANCES)
    align(tmp_path)
    assert clips_of(tmp_path)["untold"].words


def test_nothing_to_align_and_no_pack(tmp_path: Path) -> None:
    pack_of(tmp_path / "told", [UTTERANCES[1]])
    assert align(tmp_path / "told") == (0, [])
    with pytest.raises(InputError, match="not a pack"):
        align(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_processes_of_their_own_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avsr.train.packs.workers import open_executor

    pack_of(tmp_path / "a", UTTERANCES)
    pack_of(tmp_path / "b", UTTERANCES)
    align(tmp_path / "a")

    def open_real(jobs: int) -> Executor:
        return open_executor(jobs)

    monkeypatch.undo()
    monkeypatch.setattr(module, "open_executor", open_real)
    align(tmp_path / "b", jobs=2)
    assert clips_of(tmp_path / "a") == clips_of(tmp_path / "b")
