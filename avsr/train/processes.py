"""The processes that train one model together, on one machine or many, as ``torchrun`` starts them.

    torchrun --standalone --nproc-per-node 2 --max-restarts 3 -m avsr train DATA

If a process dies, the others end too. On one machine torchrun restarts all of them, and they resume from the last
checkpoint. With several machines each counts its own restarts, so they may fail to rejoin: start all of them anew.

The first process writes all files and reports; the others read the packs in DATA and get everything else from the
first. A single process runs the same code.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from avsr.errors import AvsrError

T = TypeVar("T")
TIMEOUT = timedelta(hours=12)
"""For all communication: the others wait while the first process prepares clips."""


@dataclass(frozen=True, slots=True)
class Processes:
    """One process among ``count``; ``local_count`` of them on its machine."""

    rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes and reports."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of everybody's ``values``."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def average_in_place(self, tensors: Sequence[torch.Tensor]) -> None:
        """Make each of ``tensors`` everybody's mean of it."""
        if self.count == 1 or not tensors:
            return
        means = self.sum(torch.cat([x.flatten() for x in tensors])) / self.count
        for x, mean in zip(tensors, torch.split(means, [x.numel() for x in tensors]), strict=True):
            x.copy_(mean.view_as(x))

    def share(self, make: Callable[[], T]) -> T:
        """Run ``make`` in the first process and return its result in all of them; an AvsrError is raised in all."""
        if self.count == 1:
            return make()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = make()
            except AvsrError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        if outcome[1] is not None:
            raise outcome[1]
        made: T = outcome[0]
        return made


SINGLE_PROCESS = Processes()


@contextmanager
def join_processes(backend: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; without it, be alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield SINGLE_PROCESS
        return
    store, rank, count = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))  # type: ignore[attr-defined]
    # All attempts of a torchrun share a store: without a prefix, one would find the addresses of dead processes.
    named = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=named, rank=rank, world_size=count, timeout=TIMEOUT)
    part = dist.destroy_process_group
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    except BaseException:
        # NCCL's orderly end waits for the others, which may wait for this process in a reduction, up to TIMEOUT.
        part = dist.distributed_c10d._abort_process_group
        raise
    finally:
        # Objects that still refer to the group keep its threads alive, which abort the process when Python exits.
        gc.collect()
        part()
