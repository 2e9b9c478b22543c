"""Many streams' chunks in one step of the network.

    stream 1 ── step ──┐
    stream 2 ── step ──┼─► what waits when the network is free: stack ─► Network.step ─► unstack ─► every stream
    stream 3 ── step ──┘

Nothing waits in order to fill a batch: a chunk that finds the network idle is computed at once, and the chunks that
arrive meanwhile form the next batch. So an idle server has the least delay, and a busy one the largest batches. This
requires that the batch is the first axis of every tensor of a state, and that each stream's time is part of its state.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from avsr.model import ModelState
from avsr.stream import Network
from avsr.traced import map_tensors, tensors_of
from avsr.types import AvChunk, LogProbs

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    chunk: AvChunk
    state: ModelState
    chunk_ticks: int
    result: Future[tuple[LogProbs, ModelState]]

    @property
    def kind(self) -> tuple[int, int]:
        """Jobs of one kind fit into one batch."""
        return self.chunk_ticks, self.chunk.num_ticks


class BatchedNetwork:
    """A `Network` for any number of streams, each in its own thread; a step blocks until its batch is computed.

    The network runs in one thread of its own, so that there is one pool of PyTorch's worker threads. ``on_batch`` is
    called in that thread with the size of every batch.
    """

    def __init__(self, network: Network, max_batch: int, on_batch: Callable[[int], None]) -> None:
        self._network, self._max_batch, self._on_batch = network, max_batch, on_batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="avsr-network", daemon=True)
        self._thread.start()

    @property
    def device(self) -> torch.device:
        """Where chunks are wanted."""
        return self._network.device

    @property
    def is_alive(self) -> bool:
        """Whether steps are taken."""
        return self._thread.is_alive()

    def init_state(self) -> ModelState:
        """Return the state of a stream that has not begun."""
        return self._network.init_state()

    def step(self, chunk: AvChunk, state: ModelState, chunk_ticks: int) -> tuple[LogProbs, ModelState]:
        """Do as `AvsrModel.step`, for one stream (B = 1). A step that fails fails for its own stream only."""
        if self._is_closed:
            raise RuntimeError("the network was closed while streams were running")
        job = _Job(chunk, state, chunk_ticks, Future())
        self._jobs.put(job)
        return job.result.result()

    def close(self) -> None:
        """Take the steps that wait, then no more."""
        self._is_closed = True
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        waiting: list[_Job] = []
        is_open = True
        while is_open or waiting:
            while is_open and not (waiting and self._jobs.empty()):  # blocks only while nothing waits
                job = self._jobs.get()
                if job is None:
                    is_open = False
                else:
                    waiting.append(job)
            # The job that has waited longest decides the kind of the batch.
            batch = [job for job in waiting if job.kind == waiting[0].kind][: self._max_batch]
            waiting = [job for job in waiting if job not in batch]
            if batch:
                self._take(batch)

    @torch.inference_mode()
    def _take(self, batch: list[_Job]) -> None:
        try:
            steps = self._step_together(batch)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].result.set_exception(error)
            else:  # only the stream that causes the error shall fail
                for job in batch:
                    self._take([job])
            return
        self._on_batch(len(batch))
        for job, step in zip(batch, steps, strict=True):
            job.result.set_result(step)

    def _step_together(self, batch: list[_Job]) -> list[tuple[LogProbs, ModelState]]:
        first = batch[0]
        if len(batch) == 1:
            return [self._network.step(first.chunk, first.state, first.chunk_ticks)]
        log_probs, states = self._network.step(
            stack([job.chunk for job in batch]), stack([job.state for job in batch]), first.chunk_ticks
        )
        return [
            (replace(row(log_probs, i), start_tick=job.chunk.start_tick), row(states, i)) for i, job in enumerate(batch)
        ]


def stack(values: Sequence[T]) -> T:
    """Put the rows of many chunks or states into one, tensor by tensor; what is no tensor is the first one's."""
    columns = zip(*map(tensors_of, values), strict=True)
    return map_tensors(values[0], lambda _: torch.cat(next(columns)))


def row(values: T, index: int) -> T:
    """Take one row out of many: a copy, so that it does not keep the others in memory."""
    return map_tensors(values, lambda tensor: tensor[index : index + 1].clone())
