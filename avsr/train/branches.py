"""Training of the audio and lip branches, which are independent: on a CPU in two processes, in parallel."""

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
"""Read at a time while a worker's last reports are discarded."""


def train_branches(job: Job, machine: Machine, on_report: OnReport) -> dict[Branch, StageSummary]:
    """Train the recipe's audio and lip branches as far as they are not finished; return their summaries.

    They are trained one after the other on a GPU, with several processes, and on a single core.

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
            worker.process.terminate()  # SIGTERM: each writes its checkpoint and ends
        for worker in workers:
            worker.drain()
        raise
    if failures:
        raise AvsrError("; ".join(failures))


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process that trains one branch, and the receiving end of its own pipe.

    With one queue for all, a process killed while it writes could keep the lock, or leave half a message before those
    of the others. With a pipe each, the reader just sees the end of that pipe.
    """

    branch: Branch
    process: SpawnProcess
    receiver: Connection

    @classmethod
    def start(cls, job: Job, branch: Branch, machine: Machine, threads: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train_alone, name=branch, args=(job, branch, machine, threads, sender))
        process.start()
        sender.close()  # the process has a copy; when that closes, however it ends, so does the pipe
        return cls(branch, process, receiver)

    def death(self) -> str | None:
        """Wait for the end of the process; return how it failed, None if it exited with 0."""
        self.process.join()
        code = self.process.exitcode or 0
        if code == 0:
            return None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.branch}: its process {how}; run the command again to go on"

    def drain(self) -> None:
        """Wait for the end of the process; discard its reports, so that a full pipe cannot block it."""
        if not self.receiver.closed:
            while os.read(self.receiver.fileno(), PIPE_BYTES):
                pass
        self.process.join()


def _listen(workers: Sequence[_Worker], on_report: OnReport) -> list[str]:
    """Pass on the workers' reports until all have ended; return the reasons of those that failed."""
    failures: list[str] = []
    talking = {worker.receiver: worker for worker in workers}
    while talking:
        for receiver in wait(list(talking)):
            assert isinstance(receiver, Connection)
            try:
                heard: Report | str = receiver.recv()
            except (EOFError, OSError):  # OSError: in the middle of a message
                receiver.close()
                worker = talking.pop(receiver)
                if death := worker.death():
                    on_report(StageNote(worker.branch, f"failed: {death}"))
                    failures.append(death)
                continue
            if isinstance(heard, str):
                failures.append(heard)
            else:
                on_report(heard)
    return failures


def _train_alone(job: Job, branch: Branch, machine: Machine, threads: int, sender: Connection) -> None:
    leave_terminal_to_parent()
    torch.set_num_threads(threads)
    try:
        job.trainer(branch, machine, sender.send).run()
    except AvsrError as error:
        sender.send(StageNote(branch, f"failed: {error}"))  # at once: the other branch may take hours yet
        sender.send(f"{branch}: {error}")
    except (KeyboardInterrupt, BrokenPipeError):  # BrokenPipeError: the parent was killed
        raise SystemExit(1) from None  # not finished, but its checkpoint is kept
