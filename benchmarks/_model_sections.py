"""The sections of the kernel benchmark that run the whole network of the default model."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest.mock import patch

import torch
from _attention_jobs import relative_error
from _kernel_report import Report, show
from _model_step import (
    GraphedStep,
    LaunchedStep,
    draw_chunk,
    find_capacity,
    latencies_ms,
    load_default_model,
    split_by_part,
    summarise,
)
from _timing import count_launches

from avsr.model import AvsrModel
from avsr.types import AvChunk, LogProbs

CHUNKS = (4, 8, 16)
SPLIT_CHUNK = 8
P99_LIMIT_MS = 100.0
SAME_FLOAT32 = 1e-4
"""Largest accepted relative error of log-probabilities between two ways to run the float32 network."""


def time_steps(report: Report, device: torch.device, backend: str, steps: int) -> None:
    """Time the step of one stream, launched and from a graph; ``AVSR_KERNELS`` must be set to ``backend``."""
    for chunk_ticks in CHUNKS:
        for graph in (False, True) if device.type == "cuda" else (False,):
            figures = {"backend": backend, "chunk_ticks": chunk_ticks, "graph": graph, "streams": 1}
            with report.row("model step", "ours", figures) as row:
                row["error_float32"] = _check(device, chunk_ticks, graph, torch.float32)
                if not row["error_float32"] <= SAME_FLOAT32:
                    raise ValueError(f"wrong: relative error {row['error_float32']:.2g}; not timed")
                dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
                row["dtype"] = str(dtype).removeprefix("torch.")
                row["error"] = _check(device, chunk_ticks, graph, dtype)
                chunk = draw_chunk(1, chunk_ticks, dtype)
                step = _stepper(load_default_model(device, dtype), chunk, graph)
                latencies_ms(step, chunk, 10, float("inf"))
                row["latency"] = summarise(latencies_ms(step, chunk, steps, float("inf")))
                row["launches"] = count_launches(lambda: step(chunk)) if device.type == "cuda" else None  # noqa: B023


def show_steps(report: Report) -> None:
    """Print the results of ``time_steps``."""
    columns = ["backend", "chunk_ticks", "graph", "p50_ms", "p99_ms", "launches", "error_float32", "error", "refused"]
    rows = []
    for row in report.of("model step"):
        latency = row.get("latency")
        found = {**row, "p50_ms": latency and latency.p50_ms, "p99_ms": latency and latency.p99_ms}
        rows.append([found.get(column) for column in columns])
    show("one streaming step of the whole network, one stream, from host to host", columns, rows)


def fill_gpu(report: Report, device: torch.device, backend: str, until: float) -> None:
    """Find how many real-time streams one GPU can serve with chunks of 320 ms."""
    with report.row("capacity", "ours", {"backend": backend, "p99_limit_ms": P99_LIMIT_MS}) as row:
        model = load_default_model(device, torch.bfloat16)
        found = find_capacity(model, 8, p99_limit_ms=P99_LIMIT_MS, until=until)
        if found is None:
            raise ValueError("not even the first batch kept the limit")
        row.update({name: getattr(found, name) for name in found.__slots__})
        print(f"streams on one GPU: {found}")


def split(report: Report, device: torch.device, backend: str) -> None:
    """Time the parts of one stream's step."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    figures = {"backend": backend, "chunk_ticks": SPLIT_CHUNK, "dtype": str(dtype).removeprefix("torch.")}
    rows = []
    with report.row("split", "ours", figures) as row:
        spreads = split_by_part(load_default_model(device, dtype), SPLIT_CHUNK)
        whole, whole_replayed = spreads["the whole step"]
        for part, (alone, graph) in spreads.items():
            row[part.strip()] = {"launched": alone, "replayed": graph}
            share = alone.median_us / whole.median_us
            share_replayed = graph.median_us / whole_replayed.median_us if graph and whole_replayed else None
            rows.append([part, alone, share, graph, share_replayed])
        columns = [f"part ({backend})", "launched, us", "share", "replayed, us", "share"]
        show("one step of one stream by part, each alone", columns, rows)


def _check(device: torch.device, chunk_ticks: int, graph: bool, dtype: torch.dtype, steps: int = 3) -> float:
    """Return the relative error of a few steps against the launched float32 step of the reference path."""
    torch.manual_seed(chunk_ticks)
    chunks = [draw_chunk(1, chunk_ticks, torch.float32) for _ in range(steps)]
    with patch.dict(os.environ, AVSR_KERNELS="reference"):
        wanted = _run(_stepper(load_default_model(device, torch.float32), chunks[0], False), chunks)
    chunks = [AvChunk(chunk.mel.to(dtype), chunk.lips, chunk.heard, chunk.visible) for chunk in chunks]
    return relative_error(_run(_stepper(load_default_model(device, dtype), chunks[0], graph), chunks), wanted)


def _run(step: Callable[[AvChunk], LogProbs], chunks: list[AvChunk]) -> tuple[torch.Tensor, ...]:
    return tuple(step(chunk).values.clone() for chunk in chunks)


def _stepper(model: AvsrModel, example: AvChunk, graph: bool) -> Callable[[AvChunk], LogProbs]:
    return GraphedStep(model, example) if graph else LaunchedStep(model, example)
