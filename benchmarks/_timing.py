"""Timing of short calls: launched one by one, replayed from a CUDA graph, or interleaved candidates on a CPU.

Caches are cold: every call of a sample has its own inputs, and on a GPU the L2 cache is overwritten before each sample,
so that inputs come from memory, as they do when other layers have run in between.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from platform import platform, processor
from statistics import median, quantiles

import torch

Call = Callable[[], object]

WARM_UPS = 3
CACHE_SWEEP_BYTES = 2**28
"""Several times the L2 cache of any GPU."""
COPY_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Spread:
    """Microseconds per call: median, 10th and 90th percentile of the samples, each the mean of several calls."""

    median_us: float
    p10_us: float
    p90_us: float

    @classmethod
    def of(cls, samples_us: Sequence[float]) -> Spread:
        """Compute the percentiles of ``samples_us``."""
        tenths = quantiles(samples_us, n=10, method="inclusive")
        return cls(median(samples_us), tenths[0], tenths[-1])


def time_launched(calls: Sequence[Call], device: torch.device, repeats: int = 30) -> Spread:
    """Time ``calls`` launched from Python, from the start of the first to the end of the last."""
    for _ in range(WARM_UPS):
        calls[0]()
    samples = []
    for _ in range(repeats):
        _sweep_cache(device)
        synchronize(device)
        begun = time.perf_counter()
        for call in calls:
            call()
        synchronize(device)
        samples.append((time.perf_counter() - begun) * 1e6 / len(calls))
    return Spread.of(samples)


def time_replayed(calls: Sequence[Call], repeats: int = 50) -> Spread:
    """Time ``calls`` captured together, one after the other, in one CUDA graph."""
    graph, outputs = capture(lambda: [call() for call in calls], warm_up=calls[0])
    event = partial(torch.cuda.Event, enable_timing=True)
    marks = [(event(), event()) for _ in range(repeats)]
    for begin, end in marks:
        _sweep_cache(torch.device("cuda"))
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    del outputs
    graph.reset()
    return Spread.of([begin.elapsed_time(end) * 1e3 / len(calls) for begin, end in marks])


def capture(work: Callable[[], object], *, warm_up: Call | None = None) -> tuple[torch.cuda.CUDAGraph, object]:
    """Capture ``work`` in a CUDA graph; return the graph and the outputs that its replays overwrite.

    ``warm_up``, by default ``work``, runs first, so that one-time compilation, tuning and allocation is not captured.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            (warm_up or work)()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            outputs = work()
    finally:
        torch.cuda.set_stream(stream)  # PyTorch does not restore it when ending a capture fails
    return graph, outputs


def time_interleaved(candidates: Mapping[str, Call], rounds: int, calls: int = 5) -> dict[str, list[float]]:
    """Time candidates in alternation, so that other load on the machine affects all of them equally.

    Returns:
        Microseconds per call of every round, by candidate. The candidate that goes first changes every round.
    """
    names = list(candidates)
    for name in names * WARM_UPS:
        candidates[name]()
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            call = candidates[name]
            begun = time.perf_counter()
            for _ in range(calls):
                call()
            samples[name].append((time.perf_counter() - begun) * 1e6 / calls)
    return samples


def count_launches(call: Call) -> int | None:
    """Count the kernels, copies and fills that one call launches; None if the profiler saw nothing."""
    call()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    events = profile.events() or []
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in events) or None  # type: ignore[attr-defined]


def copy_gb_s(device: torch.device) -> float:
    """Measure the bandwidth of a large copy in the device's memory, in GB/s, bytes read plus bytes written."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    spread = time_launched([lambda: target.copy_(source)] * 4, device, repeats=10)
    return 2 * COPY_BYTES / spread.median_us / 1e3


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, if there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def describe_machine(device: torch.device) -> dict[str, str | None]:
    """Return the versions of software and hardware that the measurements depend on."""
    found: dict[str, str | None] = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": None,
        "platform": platform(),
        "device": _cpu_name(),
        "driver": None,
    }
    with suppress(ImportError):
        import triton

        found["triton"] = triton.__version__
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.CalledProcessError):
            found["driver"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return found


def _cpu_name() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return processor() or "CPU"


_sweeper: list[torch.Tensor] = []


def _sweep_cache(device: torch.device) -> None:
    if device.type != "cuda":
        return
    if not _sweeper:
        _sweeper.append(torch.zeros(CACHE_SWEEP_BYTES // 8, dtype=torch.int64, device=device))
    _sweeper[0].sum()  # read, since written data would be flushed to memory while the next call is timed
