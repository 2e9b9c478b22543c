"""The two branches need nothing of each other: on a processor each is trained in its own process, side by side."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from avsr.errors import AvsrError
from avsr.train.loop import StageSummary, finished_summary
from avsr.train.machine import Machine
from avsr.train.recipe import Branch
from avsr.train.tracking import OnReport, Report, StageNote

if TYPE_CHECKING:
    from avsr.train.run import Job

APART: tuple[Branch, ...] = ("audio", "video")


def train_branches(job: Job, machine: Machine, on_report: OnReport) -> dict[Branch, StageSummary]:
    """Train the audio and the lip branch as far as they are not done; return what they came to.

    They go one after the other on a GPU, among several processes, and where there is one processor.

    Raises:
        AvsrError: a branch cannot be trained, or its process died.
        KeyboardInterrupt: training was told to stop.
    """
    finished = {branch: machine.processes.share(partial(finished_summary, job.work / branch)) for branch in APART}
    pending = [branch for branch in APART if finished[branch] is None]
    cores = os.cpu_count() or 1
    if len(pending) < 2 or machine.is_gpu or machine.processes.count > 1 or cores < 2:
        for branch in pending:
            job.trainer(branch, machine, on_report).run()
    else:
        _train_side_by_side(job, pending, machine, max(1, cores // len(pending)), on_report)
    finished |= {branch: machine.processes.share(partial(finished_summary, job.work / branch)) for branch in pending}
    return {branch: summary for branch, summary in finished.items() if summary is not None}


def _train_side_by_side(job: Job, branches: list[Branch], machine: Machine, threads: int, on_report: OnReport) -> None:
    context = multiprocessing.get_context("spawn")
    said: Any = context.Queue()
    workers = [context.Process(target=_train_alone, args=(job, branch, machine, threads, said)) for branch in branches]
    for worker in workers:
        worker.start()
    try:
        failures = _listen(workers, said, on_report)
    except KeyboardInterrupt:
        for worker in workers:
            worker.terminate()  # which each takes as the wish to write its checkpoint and end
        _listen(workers, said, on_report)
        raise
    if failures:
        raise AvsrError("; ".join(failures))
    dead = [branch for branch, worker in zip(branches, workers, strict=True) if worker.exitcode]
    if dead:
        raise AvsrError(f"training the branch(es) {', '.join(dead)} died; run the command again to go on")


def _listen(workers: list[Any], said: Any, on_report: OnReport) -> list[str]:
    """Pass on what the workers say until all have ended; return why some failed."""
    failures: list[str] = []
    while True:
        alive = any(worker.is_alive() for worker in workers)
        try:
            heard: Report | str = said.get(timeout=0.2)
        except queue.Empty:
            if alive:
                continue
            return failures
        if isinstance(heard, str):
            failures.append(heard)
        else:
            on_report(heard)


def _train_alone(job: Job, branch: Branch, machine: Machine, threads: int, said: Any) -> None:
    # Ctrl-C reaches every process of a terminal; it is for the first one to pass on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        job.trainer(branch, machine, said.put).run()
    except AvsrError as error:
        said.put(StageNote(branch, f"failed: {error}"))  # at once: the other branch may take hours yet
        said.put(f"{branch}: {error}")
    except KeyboardInterrupt:
        raise SystemExit(1) from None  # its work is kept, and not done
