"""What a stage is trained on: a processor or a GPU, workers that make examples, other processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from avsr.device import open_device
from avsr.errors import DeviceError
from avsr.train.packs.workers import num_cores
from avsr.train.processes import SINGLE_PROCESS, Processes, join_processes

CPU = torch.device("cpu")
DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where training runs. Device and workers do not change the result, except for rounding.

    Neither do several processes for the audio branch without dropout. Otherwise they change it somewhat, since each
    process normalises its own pictures (batch normalisation) and draws its own dropout.

    ``workers`` processes make examples ahead of their use (0: none; they are made when they are needed). A checkpoint
    is written after every ``checkpoint_every_s`` seconds, besides those after every epoch.
    """

    device: torch.device = CPU
    workers: int = 0
    processes: Processes = SINGLE_PROCESS
    checkpoint_every_s: float = 120.0

    @property
    def is_gpu(self) -> bool:
        """Whether the network runs on a GPU."""
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        """Return the context in which the network is run: bfloat16 on a GPU that has it."""
        enabled = self.is_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


@contextmanager
def open_machine(device: DeviceName = "auto", workers: int | None = None) -> Iterator[Machine]:
    """Open ``device`` and join the other processes, if ``torchrun`` started any.

    ``auto`` takes a GPU where there is one. ``workers`` None is 0 on a processor, which has enough to do, and this
    process's share of the processors beside a GPU.

    Raises:
        DeviceError: there is no such device, it cannot be used, or there are fewer GPUs than processes.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        with join_processes("gloo") as processes:
            yield Machine(CPU, workers or 0, processes)
        return
    # Counts and files travel between processors, gradients between GPUs.
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if 0 < torch.cuda.device_count() <= local_rank:
        raise DeviceError(
            f"process {local_rank + 1} of this machine has no GPU; give --nproc-per-node the GPUs there are"
        )
    chosen = open_device("cuda", local_rank)
    torch.cuda.set_device(chosen)
    torch.set_float32_matmul_precision("high")  # TF32
    with join_processes("cpu:gloo,cuda:nccl") as processes:
        if workers is None:
            workers = max(1, num_cores() // processes.local_count - 1)
        yield Machine(chosen, workers, processes)
