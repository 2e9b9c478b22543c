"""Preparing: what is broken is listed, what is done is kept, and what comes out trains on a bare machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import bare_machine
import pytest
from toy_clips import encode_once
from typer.testing import CliRunner

import avsr
from avsr.cli import app
from avsr.corpora import AlignedWord, Utterance, read_senses
from avsr.errors import InputError
from avsr.train.loop import finished_summary
from avsr.train.packs import prepare as module
from avsr.train.packs import workers
from avsr.train.packs.prepare import FAILED_FILE, prepare
from avsr.train.packs.reader import PreparedCorpus, read_index

DEMO = Path(avsr.__file__).parent / "talker" / "demo"
CLIP, SOUND = DEMO / "bin_blue.mp4", DEMO / "babble.ogg"
TEXT = "bin blue at f two now"
WORDS = tuple(AlignedWord(word, 0.4 + 0.2 * place, 0.6 + 0.2 * place) for place, word in enumerate(TEXT.split()))


def said(path: Path, text: str = "bin", split: str = "train") -> Utterance:
    return Utterance(path, "s1", split, text, WORDS[: len(text.split())])


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in this process, which starts faster."""
    monkeypatch.setattr(workers, "open_executor", ThreadPoolExecutor)


@pytest.fixture
def quick(in_threads: None, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Encode every file as if it were the demo's sound; remember which."""
    sound, asked = encode_once(SOUND), []

    def remember(path: Path) -> object:
        asked.append(path)
        if "bad" in path.name:
            raise ValueError("all\nbroken")
        return sound

    monkeypatch.setattr(module, "encode", remember)
    return asked


@pytest.fixture(scope="module")
def demo_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's clip, and a sound without pictures."""
    directory = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "open_executor", ThreadPoolExecutor)
        prepare([said(CLIP, TEXT), said(SOUND, TEXT), said(CLIP, TEXT, "dev")], DEMO, directory)
    return directory


def test_a_clip_comes_out_as_the_engine_sees_and_hears_it(demo_pack: Path) -> None:
    corpus = PreparedCorpus(demo_pack)
    sound, same, clip = corpus.clips
    assert (clip.path, clip.speaker, clip.split, clip.text, clip.words) == ("bin_blue.mp4", "s1", "train", TEXT, WORDS)
    assert same == replace(clip, split="dev")
    assert corpus.media(same) == corpus.media(clip)
    assert (corpus.media(clip).is_filmed, corpus.media(sound).is_filmed) == (True, False)
    assert (corpus.media(sound).num_lips_bytes, corpus.media(sound).visible) == (0, ())
    senses, data = read_senses(CLIP, "av"), corpus.load(clip)
    assert data.num_ticks == senses.num_ticks
    assert (data.visible == senses.visible).all()
    assert abs(data.lips[50].astype(int) - senses.lips[50].gray).mean() < 3
    media = corpus.media(clip)
    assert (media.num_audio_bytes + media.num_lips_bytes) / clip.num_ticks * 75 < 30_000
    assert media.sync_percent is not None


def test_progress_is_reported_file_by_file(quick: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    files = [said(Path(name)) for name in ("a", "bad", "a")]
    prepare(files, Path(), tmp_path, on_progress=lambda p: seen.append((p.num_done, p.num_files, len(p.failed))))
    assert [counts[:2] for counts in seen] == [(0, 2), (1, 2), (2, 2)]
    assert seen[-1][2] == 1


def test_a_broken_clip_is_listed_and_skipped(quick: list[Path], tmp_path: Path) -> None:
    result = prepare([said(Path("x/bad\t1")), said(Path("x/a"))], Path("x"), tmp_path)
    assert result.failed == {"bad\t1": "all broken"}
    assert (tmp_path / FAILED_FILE).read_text() == "path\treason\nbad\\\t1\tall broken\n"
    assert [clip.path for clip, _ in read_index(tmp_path)] == ["a"]


def test_a_clip_whose_transcript_cannot_be_used_is_listed_and_never_trained_from(
    quick: list[Path], tmp_path: Path
) -> None:
    seen: list[tuple[int, int, int]] = []
    untold = replace(said(Path("x/a"), ""), words=(), problem="a.align: no words")
    files = [untold, said(Path("x/b"))]
    for left in (1, 0):
        result = prepare(
            files,
            Path("x"),
            tmp_path,
            on_progress=lambda p: seen.append((p.num_done, p.num_files, len(p.failed))),
        )
        assert result.failed == {"a": "a.align: no words"}
        assert (result.num_done, result.num_files) == (2, 2)
        assert seen == [(2 - left, 2, 1), (2, 2, 1)][: left + 1]
        assert [clip.path for clip, _ in read_index(tmp_path)] == ["b"]
        assert (tmp_path / FAILED_FILE).read_text() == "path\treason\na\ta.align: no words\n"
        seen.clear()
    assert [path.name for path in quick] == ["b"]
    with pytest.raises(InputError, match=r"a\.align: no words"):
        prepare([untold], Path("x"), tmp_path / "other")


def test_a_file_that_is_no_media_is_a_broken_clip(in_threads: None, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    result = prepare([said(text), said(tmp_path / "none.mp4"), said(SOUND)], tmp_path, tmp_path / "pack")
    assert result.failed.keys() == {"notes.txt", "none.mp4"}


def test_what_is_damaged_or_cut_off_is_a_broken_clip(in_threads: None, tmp_path: Path) -> None:
    damaged, short, content = tmp_path / "damaged.mp4", tmp_path / "short.ogg", CLIP.read_bytes()
    damaged.write_bytes(content[:20_000] + bytes(9000) + content[29_000:])
    short.symlink_to(SOUND)
    listed = [said(damaged), replace(said(short), seconds=9.0), replace(said(SOUND), seconds=8.0)]
    result = prepare(listed, tmp_path, tmp_path / "pack")
    assert [clip.path for clip, _ in read_index(tmp_path / "pack")] == [str(SOUND)]
    assert "damaged in places" in result.failed["damaged.mp4"]
    assert "ends after 8.0 s of the 9.0 s" in result.failed["short.ogg"]


def test_a_pack_of_what_is_too_short_reads_it_again(quick: list[Path], tmp_path: Path) -> None:
    prepare([said(Path("a")), said(Path("b"))], Path(), tmp_path)
    quick.clear()
    result = prepare([said(Path("a")), replace(said(Path("b")), seconds=9.0)], Path(), tmp_path)
    assert [path.name for path in quick] == ["b"]
    assert result.failed.keys() == {"b"}
    assert [clip.path for clip, _ in read_index(tmp_path)] == ["a"]


def test_a_table_by_which_all_are_too_short_empties_no_pack(quick: list[Path], tmp_path: Path) -> None:
    clips = [said(Path("a")), said(Path("b"))]
    prepare(clips, Path(), tmp_path)
    with pytest.raises(InputError, match=r"all clips in it are too short .*; correct the table's column seconds, or"):
        prepare([replace(clip, seconds=3000.0) for clip in clips], Path(), tmp_path)
    assert [clip.path for clip, _ in read_index(tmp_path)] == ["a", "b"]


def test_nothing_that_can_be_used_is_an_error(quick: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all broken"):
        prepare([said(Path("bad"))], Path(), tmp_path)
    with pytest.raises(InputError, match="empty"):
        prepare([], Path(), tmp_path)


def test_what_is_done_is_kept_and_what_failed_is_tried_again(quick: list[Path], tmp_path: Path) -> None:
    utterances = [said(Path(name)) for name in ("a", "bad", "c")]
    prepare(utterances, Path(), tmp_path)
    quick.clear()
    prepare([*utterances, said(Path("d"))], Path(), tmp_path)
    assert sorted(path.name for path in quick) == ["bad", "d"]


def test_a_pack_to_which_clips_are_added_is_unfinished_until_all_are_there(
    quick: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    prepare([said(Path("a"))], Path(), tmp_path)
    assert (tmp_path / FAILED_FILE).exists()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "encode", stop)
        prepare([said(Path("a")), said(Path("b"))], Path(), tmp_path)
    assert not (tmp_path / FAILED_FILE).exists()
    prepare([said(Path("a")), said(Path("b"))], Path(), tmp_path)
    assert (tmp_path / FAILED_FILE).exists()


def test_the_pack_says_of_a_clip_what_the_corpus_says_now(quick: list[Path], tmp_path: Path) -> None:
    prepare([said(Path("a")), said(Path("b"))], Path(), tmp_path)
    quick.clear()
    now = [said(Path("a"), "blue", "dev"), said(Path("a"), "red", "test")]
    prepare(now, Path(), tmp_path)
    assert quick == []
    assert [(clip.path, clip.text, clip.split) for clip, _ in read_index(tmp_path)] == [
        ("a", "blue", "dev"),
        ("a", "red", "test"),
    ]


def test_the_pack_of_another_corpus_is_left_alone(quick: list[Path], tmp_path: Path) -> None:
    prepare([said(Path("a"))], Path(), tmp_path)
    before = read_index(tmp_path)
    with pytest.raises(InputError, match="another corpus"):
        prepare([said(Path("b"))], Path(), tmp_path)
    assert read_index(tmp_path) == before


class DeadlyExecutor(ThreadPoolExecutor):
    """Ends its process at a file called ``deadly``, and takes down what is running beside it."""

    def submit(self, encode, path, /):  # type: ignore[no-untyped-def, override]
        from concurrent.futures.process import BrokenProcessPool

        def run() -> object:
            if path.name == "deadly":
                raise BrokenProcessPool
            return encode(path)

        return super().submit(run)


def test_a_file_that_kills_its_process_is_found_out(
    quick: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "open_executor", DeadlyExecutor)
    names = ["a", "deadly", *"bcdefgh"]
    result = prepare([said(Path(name)) for name in names], Path(), tmp_path, jobs=2)
    assert result.failed.keys() == {"deadly"}
    assert {clip.path for clip, _ in read_index(tmp_path)} == set(names) - {"deadly"}


def test_processes_are_bounded_whatever_the_length(
    quick: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []

    def executor(jobs: int) -> Executor:
        asked_for.append(jobs)
        return ThreadPoolExecutor(jobs)

    monkeypatch.setattr(workers, "open_executor", executor)
    prepare([said(Path(str(index))) for index in range(50)], Path(), tmp_path, jobs=3)
    assert asked_for == [3]


def test_a_killed_run_leaves_no_process_and_can_be_resumed(in_threads: None, tmp_path: Path) -> None:
    rows = []
    for index in range(4):
        (tmp_path / f"{index}.ogg").symlink_to(SOUND)
        rows.append(f"{index}.ogg\ts\ttrain\t8\tx\t\n")
    table = tmp_path / "t.tsv"
    table.write_text("path\tspeaker\tsplit\tseconds\ttext\twords\n" + "".join(rows))
    command = [sys.executable, "-m", "avsr", "prepare", str(table), "-o", str(tmp_path / "pack"), "--jobs", "2", "-q"]
    run = subprocess.Popen(command, start_new_session=True)
    while not (tmp_path / "pack" / "index.jsonl").exists() or not read_index(tmp_path / "pack"):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert all(clip.num_ticks for clip, _ in read_index(tmp_path / "pack"))
    deadline = time.monotonic() + 20
    while _is_group_alive(run.pid):
        assert time.monotonic() < deadline, "worker processes outlive their parent"
        time.sleep(0.05)
    assert CliRunner().invoke(app, command[3:]).exit_code == 0
    corpus = PreparedCorpus(tmp_path / "pack")
    assert len(corpus.clips) == 4
    assert all(corpus.load(clip).audio.any() for clip in corpus.clips)


def _is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(300)  # a busy machine takes long to import PyTorch
def test_a_pack_is_trained_from_without_pyav_and_mediapipe(
    demo_pack: Path, tmp_path: Path, readied: ForkServerContext
) -> None:
    shutil.copytree(demo_pack, tmp_path / "packs" / "corpus")
    process = readied.Process(target=bare_machine.train, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    summary = finished_summary(tmp_path / "audio")
    assert summary is not None and "audio_wer" in summary.scores


def test_as_many_processes_work_as_there_are_cores_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 128)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert workers.num_cores() == 3
    monkeypatch.delattr(workers.os, "sched_getaffinity")  # as on macOS
    assert workers.num_cores() == 128
