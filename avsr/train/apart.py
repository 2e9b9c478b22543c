"""The two branches need nothing of each other: on a processor each is trained in its own process, side by side."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from avsr.errors import AvsrError
from avsr.train.job import Job
from avsr.train.loop import StageSummary, finished_summary
from avsr.train.machine import Machine
from avsr.train.packs.workers import num_cores
from avsr.train.recipe import Branch
from avsr.train.stopping import leave_terminal_to_parent
from avsr.train.tracking import OnReport, Report, StageNote

PIPE_BYTES = 65_536
"""How much of what a worker still says is thrown away at a time."""


def train_branches(job: Job, machine: Machine, on_report: OnReport) -> dict[Branch, StageSummary]:
    """Train the audio and the lip branch, where the recipe does, as far as not done; return what they came to.

    They go one after the other on a GPU, among several processes, and where there is one processor.

    Raises:
        AvsrError: a branch cannot be trained, or its process died.
        KeyboardInterrupt: training was told to stop.
    """
    branches = job.recipe.branches
    finished = {branch: machine.processes.share(partial(finished_summary, job.work / branch)) for branch in branches}
    pending = [branch for branch in branches if finished[branch] is None]
    cores = num_cores()
    if len(pending) < 2 or machine.is_gpu or machine.processes.count > 1 or cores < 2:
        for branch in pending:
            job.trainer(branch, machine, on_report).run()
    else:
        _train_side_by_side(job, pending, machine, max(1, cores // len(pending)), on_report)
    finished |= {branch: machine.processes.share(partial(finished_summary, job.work / branch)) for branch in pending}
    return {branch: summary for branch, summary in finished.items() if summary is not None}


def _train_side_by_side(job: Job, branches: list[Branch], machine: Machine, threads: int, on_report: OnReport) -> None:
    workers: list[_Worker] = []
    try:
        for branch in branches:
            workers.append(_Worker.start(job, branch, machine, threads))
        failures = _listen(workers, on_report)
    except BaseException:  # Ctrl-C above all
        for worker in workers:
            worker.process.terminate()  # which each takes as the wish to write its checkpoint and end
        for worker in workers:
            worker.wait_deaf()
        raise
    if failures:
        raise AvsrError("; ".join(failures))


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process that trains one branch, and the end of a pipe that only it talks into.

    Where several write to one queue, one that is killed while it writes keeps the others' lock, or leaves half a
    message before theirs. A pipe of one's own just ends.
    """

    branch: Branch
    process: SpawnProcess
    ear: Connection

    @classmethod
    def start(cls, job: Job, branch: Branch, machine: Machine, threads: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ear, mouth = context.Pipe(duplex=False)
        process = context.Process(target=_train_alone, name=branch, args=(job, branch, machine, threads, mouth))
        process.start()
        mouth.close()  # the process has its own; when that is closed, by whatever end, the pipe ends
        return cls(branch, process, ear)

    def death(self) -> str | None:
        """Wait for the end of the process; return how it died, None if it came to its end."""
        self.process.join()
        code = self.process.exitcode or 0
        if code == 0:
            return None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.branch}: its process {how}; run the command again to go on"

    def wait_deaf(self) -> None:
        """Wait for the end of the process, and let nothing that it still says hold it up."""
        if not self.ear.closed:
            while os.read(self.ear.fileno(), PIPE_BYTES):
                pass
        self.process.join()


def _listen(workers: Sequence[_Worker], on_report: OnReport) -> list[str]:
    """Pass on what the workers say until all have ended; return why some failed."""
    failures: list[str] = []
    talking = {worker.ear: worker for worker in workers}
    while talking:
        for ear in wait(list(talking)):
            assert isinstance(ear, Connection)
            try:
                heard: Report | str = ear.recv()
            except (EOFError, OSError):  # OSError: in the middle of a message
                ear.close()
                worker = talking.pop(ear)
                if death := worker.death():
                    on_report(StageNote(worker.branch, f"failed: {death}"))
                    failures.append(death)
                continue
            if isinstance(heard, str):
                failures.append(heard)
            else:
                on_report(heard)
    return failures


def _train_alone(job: Job, branch: Branch, machine: Machine, threads: int, mouth: Connection) -> None:
    leave_terminal_to_parent()
    torch.set_num_threads(threads)
    try:
        job.trainer(branch, machine, mouth.send).run()
    except AvsrError as error:
        mouth.send(StageNote(branch, f"failed: {error}"))  # at once: the other branch may take hours yet
        mouth.send(f"{branch}: {error}")
    except (KeyboardInterrupt, BrokenPipeError):  # nobody listens: the first process was killed
        raise SystemExit(1) from None  # its work is kept, and not done
