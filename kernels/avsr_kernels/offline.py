"""Compile the kernels for a GPU that this machine need not have, and report the registers and memory they take.

    python -m avsr_kernels.offline                      # every head dimension, precision and tile size, for sm_90
    python -m avsr_kernels.offline --head-dims 48 64    # some of them

The real operators run, on a stand-in for Triton's driver that compiles each kernel and launches nothing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from avsr_kernels import FusionCache, KeyValueCache
from avsr_kernels.chunk_attention.operator import chunk_attention
from avsr_kernels.gated_cross_attention.operator import gated_cross_attention

HEAD_DIMS = (32, 48, 64, 96, 128)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
TICKS = (8, 32, 64)
"""One size of chunk for each size of tile."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes: registers a thread; bytes spilled, of stack and of shared memory."""

    kernel: str
    registers: int
    spilled_bytes: int
    stack_bytes: int
    shared_bytes: int


def compile_all(
    head_dim: int, dtype: torch.dtype, num_ticks: int, *, gradients: bool, capability: int = 90
) -> list[Resources]:
    """Compile every kernel of one configuration.

    Args:
        head_dim: D.
        dtype: of queries, keys and values.
        num_ticks: new ticks in a call, which choose the tile.
        gradients: compile the backward kernels too.
        capability: compute capability without its point.
    """

    def tensor(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=dtype, requires_grad=gradients)

    batch, heads = 2, 4
    query, key, value = tensor(batch, num_ticks, 3, heads, head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    present = torch.ones(batch, num_ticks, dtype=torch.bool)
    cache = KeyValueCache.empty(batch, heads, 64, head_dim, like=query)
    window = {"chunk_ticks": num_ticks, "left_ticks": 64}
    with _recording(capability) as kernels:
        out, _ = chunk_attention(query, key, value, present, cache, **window)
        gates = tensor(batch, num_ticks, 2)
        gated_cross_attention(
            (query, key, value), (query, key, value), gates, present, present, FusionCache(cache, cache), **window
        )
        if gradients:
            torch.autograd.backward(out.sum())
    return [_resources(kernel, capability) for kernel in kernels]


@contextmanager
def _recording(capability: int) -> Iterator[list[Any]]:
    """Have launches compile only, and list what they compile."""
    kernels: list[Any] = []
    run, active = JITFunction.run, driver._active

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernels.append(run(self, *args, grid=grid, warmup=True, **options))
        return kernels[-1]

    driver.set_active(_NoDevice(capability))
    JITFunction.run = compile_only
    try:
        yield kernels
    finally:
        JITFunction.run = run
        driver._active = active


class _NoDevice:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_device(self) -> int:
        return self._capability  # Triton keeps what it compiled by device: each target needs a number of its own

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._capability, 32)


def _resources(kernel: Any, capability: int) -> Resources:
    assembler, target = get_ptxas(capability).path, sm_arch_from_capability(capability)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(kernel.asm["ptx"])
        command: list[str | Path] = [
            assembler,
            "-v",
            f"--gpu-name={target}",
            source,
            "-o",
            source.with_suffix(".cubin"),
        ]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, report))

    return Resources(
        kernel.metadata.name,
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes stack frame"),
        kernel.metadata.shared,
    )


def main() -> None:
    """Compile and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head-dims", type=int, nargs="+", default=HEAD_DIMS)
    parser.add_argument("--ticks", type=int, nargs="+", default=TICKS)
    parser.add_argument("--capability", type=int, default=90, help="compute capability without its point")
    options = parser.parse_args()
    print(f"{'kernel':32} {'dtype':9} {'D':>4} {'ticks':>5} {'registers':>9} {'spilled':>8} {'stack':>6} {'shared':>7}")
    for head_dim in options.head_dims:
        for dtype in DTYPES:
            for ticks in options.ticks:
                for found in compile_all(
                    head_dim, dtype, ticks, gradients=ticks == max(options.ticks), capability=options.capability
                ):
                    print(
                        f"{found.kernel:32} {str(dtype)[6:]:9} {head_dim:4} {ticks:5} {found.registers:9}"
                        f" {found.spilled_bytes:8} {found.stack_bytes:6} {found.shared_bytes:7}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
