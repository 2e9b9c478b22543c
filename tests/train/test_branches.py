"""Branches trained in parallel: whatever happens to one, the other continues, and the failure is reported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import threading
from contextlib import nullcontext
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest
from toy_recipe import recipe_of, toy_job

from avsr.errors import AvsrError
from avsr.train import branches
from avsr.train.branches import _listen, _train_side_by_side, _Worker
from avsr.train.job import Job
from avsr.train.loop import finished_summary
from avsr.train.machine import Machine
from avsr.train.recipe import Branch
from avsr.train.tracking import Report, StageNote


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "num_cores", lambda: 2)


@pytest.mark.timeout(300)  # a busy machine takes long to import PyTorch
def test_a_branch_that_is_killed_is_named_and_the_other_is_done(
    pack: Path, tmp_path: Path, readied: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", {"spawn": readied}.__getitem__)
    job = toy_job(pack, tmp_path, recipe_of(video={"epochs": 100_000, "batch_size": 1}))
    notes: list[StageNote] = []
    killed: list[int] = []

    def kill_video(report: Report) -> None:
        if isinstance(report, StageNote):
            notes.append(report)
        elif report.stage == "video" and not killed:
            (process,) = [child for child in multiprocessing.active_children() if child.name == "video"]
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)

    with pytest.raises(AvsrError, match=r"^video: its process was killed by signal 9; run the command again"):
        branches.train_branches(job, Machine(), kill_video)
    assert killed
    assert [note.stage for note in notes if "failed: video: its process was killed" in note.text] == ["video"]
    assert finished_summary(tmp_path / "audio") is not None
    assert finished_summary(tmp_path / "video") is None
    assert not multiprocessing.active_children()


def worker_of(branch: Branch, exitcode: int, thread: threading.Thread | None = None) -> tuple[_Worker, Connection]:
    """A worker whose process ended or, with ``thread``, ends with it; and the end of the pipe that it talks into."""
    ear, mouth = Pipe(duplex=False)
    process = SimpleNamespace(exitcode=exitcode, join=thread.join if thread else lambda: None, terminate=lambda: None)
    return _Worker(branch, process, ear), mouth  # type: ignore[arg-type]


@pytest.mark.parametrize("num_bytes", [1, 3, 4, 5, 500])
def test_half_a_message_is_the_end_of_its_worker_and_not_of_the_other(num_bytes: int) -> None:
    torn, mouth = worker_of("video", -signal.SIGKILL)
    message = struct.pack("!i", 1_000) + bytes(1_000)
    os.write(mouth.fileno(), message[:num_bytes])
    mouth.close()
    whole, mouth = worker_of("audio", 0)
    said = [StageNote("audio", str(index)) for index in range(20)]
    for note in said:
        mouth.send(note)
    mouth.close()
    heard: list[Report] = []
    (failure,) = _listen([torn, whole], heard.append)
    assert failure.startswith("video: its process was killed by signal 9")
    assert [report for report in heard if report.stage == "audio"] == said


def test_a_branch_that_ends_silently_is_reported_with_its_exit_code() -> None:
    worker, mouth = worker_of("audio", 1)
    mouth.close()
    assert _listen([worker], lambda _: None) == [
        "audio: its process ended with exit code 1; run the command again to go on"
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_worker_with_more_reports_than_its_pipe_holds_does_not_block_the_end(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def talk() -> None:
        for _ in range(1_000):  # more than a pipe holds
            mouth.send(StageNote("audio", "x" * 1_000))
        mouth.close()

    talker = threading.Thread(target=talk)
    worker, mouth = worker_of("audio", 1, talker)
    monkeypatch.setattr(_Worker, "start", lambda *_: worker)
    talker.start()
    with pytest.raises(error):
        _train_side_by_side(cast(Job, None), ["audio"], Machine(), 1, Mock(side_effect=error))
    assert not talker.is_alive()


def test_a_branch_that_has_begun_is_not_left_alone_where_the_other_cannot_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker, mouth = worker_of("audio", 1)
    mouth.close()
    terminate = Mock()
    monkeypatch.setattr(worker.process, "terminate", terminate)
    monkeypatch.setattr(_Worker, "start", Mock(side_effect=[worker, KeyboardInterrupt]))
    with pytest.raises(KeyboardInterrupt):
        _train_side_by_side(cast(Job, None), ["audio", "video"], Machine(), 1, Mock())
    assert terminate.called


def test_a_branch_that_cannot_be_trained_says_why_at_once_and_at_the_end(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches, "leave_terminal_to_parent", lambda: None)
    monkeypatch.setattr(branches.torch, "set_num_threads", lambda _: None)
    job = toy_job(pack, tmp_path, recipe_of(video={"epochs": 1, "augment": {"noise_share": 1.0}}))
    worker, mouth = worker_of("video", 0)
    branches._train_alone(job, "video", Machine(), 1, mouth)
    mouth.close()
    heard: list[Report] = []
    (failure,) = _listen([worker], heard.append)
    assert failure.startswith("video: ")
    assert "noise: not a pack" in failure
    assert heard == [StageNote("video", f"failed: {failure.removeprefix('video: ')}")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError, None])
def test_a_branch_that_was_told_to_stop_is_not_taken_for_done(
    error: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_to_parent = Mock()
    monkeypatch.setattr(branches, "leave_terminal_to_parent", left_to_parent)
    monkeypatch.setattr(branches.torch, "set_num_threads", lambda _: None)
    trainer = SimpleNamespace(run=Mock(side_effect=error))
    job, mouth = SimpleNamespace(trainer=lambda *_: trainer), SimpleNamespace(send=print)
    with pytest.raises(SystemExit) if error else nullcontext():
        branches._train_alone(cast(Job, job), "audio", Machine(), 1, cast(Connection, mouth))
    assert trainer.run.called
    assert left_to_parent.called


def test_a_branch_without_epochs_is_not_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun: list[Branch] = []

    def trainer(branch: Branch, *_: object) -> SimpleNamespace:
        begun.append(branch)
        return SimpleNamespace(run=lambda: None)

    job = SimpleNamespace(recipe=recipe_of(audio={"epochs": 0}), work=tmp_path, trainer=trainer)
    branches.train_branches(cast(Job, job), Machine(), lambda _: None)
    assert begun == ["video"]
