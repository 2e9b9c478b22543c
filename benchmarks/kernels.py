"""The attention kernels against eager PyTorch, SDPA and compiled FlexAttention, and the whole streaming step.

PYTHONPATH=.:kernels python benchmarks/kernels.py --json kernels.json

On a GPU this takes under ten minutes, the most important sections first; the JSON is written after each. On a CPU it
times the reference path. Nothing is timed whose result is wrong; if any of ours was, the exit status is 1.

Conditions favour the rivals: they are given the angles of the new ticks and, in training, their masks, all of which
ours works out inside its launches. (On the CPU everybody works out everything, and ours is the reference path.)
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from _attention_jobs import (
    LIMITS,
    RIVAL_SLACK,
    FusionJob,
    Job,
    Shape,
    Tensors,
    compiled,
    draw_fusion_job,
    draw_job,
    eager_fusion,
    exact,
    exact_gradients,
    fastest_sdpa,
    ours,
    ours_fusion,
    poisoned,
    relative_error,
    stream_eager,
    stream_flex,
    stream_inputs,
    train_eager,
    train_flex,
    train_sdpa,
)
from _kernel_report import Report, Row, add_ratios, judge, show
from _timing import Call, copy_gb_s, count_launches, describe_machine, time_interleaved, time_launched, time_replayed
from avsr_kernels import dispatch

BUDGET_S = 570.0
"""Of a GPU machine, lent for ten minutes a command."""
BATCHES, CHUNKS, CONTEXTS, HEADS = (1, 8, 64, 512, 1024), (4, 8, 16), (64, 128, 256), (4, 8)
SETS_BYTES = 2**26
MIN_SETS = 4
"""As many calls a captured graph, so that starting it is not what is timed."""
MAX_SETS = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=default)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    device = torch.device(options.device)
    machine = describe_machine(device)
    dispatch.check_kernels(device)
    machine["kernels"] = "triton" if dispatch.use_triton(torch.empty(1, 1, 1, 64, device=device)) else "reference"
    report = Report(machine, options.json)
    print(", ".join(f"{name} {value}" for name, value in machine.items() if value))
    torch.manual_seed(0)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # float32 is compared to 1e-5
        run_on_gpu(report, device)
    else:
        torch.set_num_threads(1)
        run_on_cpu(report)
    show(
        "targets",
        ["", "wanted", "measured", "met"],
        [(target.name, target.wanted, target.measured, target.met) for target in judge(report)],
    )
    for failure in report.failures:
        print(f"WRONG: {failure}")
    sys.exit(1 if report.failures else 0)


def run_on_gpu(report: Report, device: torch.device) -> None:
    """Run every section in the time there is."""
    until = report.begun + BUDGET_S

    def time_left() -> float:
        return until - time.perf_counter()

    def finish(section: str) -> None:
        _show_section(report, section)
        report.save()
        print(f"[{time.perf_counter() - report.begun:.0f} s]", flush=True)

    report.copy_gb_s = copy_gb_s(device)
    print(f"device-to-device copy: {report.copy_gb_s:.0f} GB/s, bytes read and written")
    check_accuracy(report, device)
    finish("accuracy")
    for batch in BATCHES:
        time_streaming(report, device, "streaming", _streaming_shape(batch), counts_launches=True)
    finish("streaming")
    for ticks, heads in product((500, 1500), HEADS):
        shape = Shape(32, heads, 64, ticks, 0, 8, 64)
        time_training(report, device, shape)
    finish("training")
    _run_model_sections(report, device, capacity_until=until - 130)
    report.save()
    for batch, (head_dim, context) in product((1, 64, 512), ((64, 64), (48, 16))):
        shape = _streaming_shape(batch, context=context, head_dim=head_dim)
        time_fusion(report, device, shape, counts_launches=True)
    finish("fusion")
    grid = [
        _streaming_shape(batch, chunk=chunk, context=context, heads=heads)
        for heads, chunk, context, batch in product(HEADS, (8, 4, 16), CONTEXTS, BATCHES)
        if (heads, chunk, context) != (4, 8, 64)
    ]
    grid = [_streaming_shape(batch, head_dim=48) for batch in BATCHES] + grid
    for shape in grid:
        if time_left() > 20:
            time_streaming(report, device, "streaming grid", shape, names=("ours", "eager", "sdpa"))
            report.save()
    for shape in grid:  # last, since each shape is compiled for seconds; the others' rows do not wait for it
        if time_left() > 25:
            time_streaming(report, device, "streaming grid", shape, names=("flex",))
            report.save()
    finish("streaming grid")


def run_on_cpu(report: Report, *, rounds: int = 200, steps: int = 60) -> None:
    """Check, time the streaming shapes against S = L + C = 80, and the whole step; one thread."""
    device = torch.device("cpu")
    check_accuracy(report, device)
    _show_section(report, "accuracy")
    if report.machine.get("kernels") == "triton":
        print("Triton's interpreter is for tests: how long it takes says nothing, and it is not timed")
        report.save()
        return
    for head_dim, chunk in product((48, 64), (8, 12, 16)):
        shape = _streaming_shape(1, chunk=chunk, context=80 - chunk, head_dim=head_dim)
        _time_on_cpu(report, dataclasses.replace(shape, dtype=torch.float32), rounds)
    _show_section(report, "streaming")
    report.save()
    _run_model_sections(report, device, capacity_until=0.0, steps=steps)
    report.save()


def check_accuracy(report: Report, device: torch.device) -> None:
    """Compare ours with float64 in every precision: one chunk, a shorter last one, several at once, and gradients."""
    dtypes = tuple(LIMITS) if device.type == "cuda" else (torch.float32,)
    for dtype, head_dim in product(dtypes, (48, 64)):
        for ticks, cached, chunk, left in ((8, 64, 8, 64), (5, 64, 8, 64), (16, 256, 16, 256), (37, 33, 4, 128)):
            shape = Shape(3, 4, head_dim, ticks, cached, chunk, left, dtype)
            with report.row("accuracy", "ours", {"what": "chunk_attention", **shape.describe()}) as row:
                job = draw_job(shape, device)
                _accept(row, partial(ours, job), exact(job))
        shape = Shape(3, 4, head_dim, 53, 0, 8, 8, dtype)
        with report.row("accuracy", "ours", {"what": "chunk_attention and gradients", **shape.describe()}) as row:
            job = draw_job(shape, device, needs_grad=True)
            grad_out = torch.randn(job.query.shape, dtype=dtype, device=device)
            _accept(
                row,
                _forward_and_backward(_training_forward("ours", job), job, grad_out),
                exact_gradients(job, grad_out),
            )
        shape = Shape(3, 4, head_dim, 8, 16, 8, 16, dtype)
        with report.row("accuracy", "ours", {"what": "gated_cross_attention", **shape.describe()}) as row:
            fusion = draw_fusion_job(shape, device)
            _accept(row, partial(ours_fusion, fusion), eager_fusion(fusion, torch.float64))


def time_streaming(
    report: Report,
    device: torch.device,
    section: str,
    shape: Shape,
    *,
    names: Sequence[str] = ("ours", "eager", "sdpa", "flex"),
    counts_launches: bool = False,
) -> None:
    """Time one chunk of B streams, forward."""
    num_sets = max(MIN_SETS, min(MAX_SETS, SETS_BYTES // shape.moved_bytes))
    jobs = [draw_job(shape, device) for _ in range(num_sets)]
    wanted = exact(jobs[0])
    rows = []
    for name in names:
        with report.row(section, name, shape.describe()) as row, torch.no_grad():
            calls = _streaming_calls(name, jobs, turns_given=True)
            _accept(row, calls[0], wanted if name == "ours" else wanted[:4])
            _time(row, calls, device, counts_launches, shape.moved_bytes, report.copy_gb_s)
        rows.append(row)
    add_ratios(rows, _ours_like(report, section, shape))


def time_training(report: Report, device: torch.device, shape: Shape) -> None:
    """Time forward and backward over whole utterances of different lengths."""
    job = draw_job(shape, device, needs_grad=True)
    grad_out = torch.randn(job.query.shape, dtype=shape.dtype, device=device)
    wanted = exact_gradients(job, grad_out)
    rows = []
    for name in ("ours", "sdpa", "flex", "eager"):
        with report.row("training", name, shape.describe()) as row:
            call = _forward_and_backward(_training_forward(name, job), job, grad_out)
            _accept(row, call, wanted)
            _time(row, [call], device, True, None, None)
        rows.append(row)
    add_ratios(rows, _ours_like(report, "training", shape))
    torch.cuda.empty_cache()


def time_fusion(report: Report, device: torch.device, shape: Shape, *, counts_launches: bool) -> None:
    """Time one fusion step of B streams, forward."""
    first = draw_fusion_job(shape, device)
    num_sets = max(MIN_SETS, min(MAX_SETS, SETS_BYTES // first.moved_bytes))
    jobs = [first, *(draw_fusion_job(shape, device) for _ in range(num_sets - 1))]
    wanted = eager_fusion(first, torch.float64)
    functions: dict[str, Callable[[FusionJob], Tensors]] = {"ours": ours_fusion, "eager": eager_fusion}
    rows = []
    for name, function in functions.items():
        with report.row("fusion", name, shape.describe()) as row, torch.no_grad():
            calls: list[Call] = [partial(function, job) for job in jobs]
            _accept(row, calls[0], wanted)
            _time(row, calls, device, counts_launches, first.moved_bytes, report.copy_gb_s)
        rows.append(row)
    add_ratios(rows, _ours_like(report, "fusion", shape))


def _time_on_cpu(report: Report, shape: Shape, rounds: int) -> None:
    job = draw_job(shape, torch.device("cpu"))
    wanted = exact(job)
    accepted: dict[str, tuple[Row, Call]] = {}
    for name in ("ours", "eager", "sdpa"):
        with report.row("streaming", name, shape.describe()) as row, torch.inference_mode():
            call = _streaming_calls(name, [job], turns_given=False)[0]
            _accept(row, call, wanted)
            accepted[name] = row, call
    with torch.inference_mode():
        samples = time_interleaved({name: call for name, (_, call) in accepted.items()}, rounds)
    for name, (row, _) in accepted.items():
        row["median_us"] = median(samples[name])
        if "ours" in samples:
            row["times_ours"] = median(a / b for a, b in zip(samples[name], samples["ours"], strict=True))
    rivals = [row["times_ours"] for name, (row, _) in accepted.items() if name != "ours" and "times_ours" in row]
    if rivals:
        accepted["ours"][0]["times_best_rival"] = 1 / min(rivals)


def _run_model_sections(report: Report, device: torch.device, *, capacity_until: float, steps: int = 300) -> None:
    """Time the whole step with and without kernels and graphs, hold as many streams as fit, and split the step."""
    try:
        import _model_sections
    except ImportError as error:
        print(f"the whole model step is not timed: {error}; install pydantic, PyYAML and safetensors")
        report.rows.append({"section": "model step", "candidate": "all", "refused": str(error)})
        return
    backends = ("triton", "reference") if report.machine["kernels"] == "triton" else ("reference",)
    with torch.inference_mode():
        for backend in backends:
            with patch.dict(os.environ, AVSR_KERNELS=backend):
                _model_sections.time_steps(report, device, backend, steps)
        _model_sections.show_steps(report)
        report.save()
        with patch.dict(os.environ, AVSR_KERNELS=backends[0]):
            if device.type == "cuda":
                _model_sections.fill_gpu(report, device, backends[0], capacity_until)
                report.save()
            _model_sections.split(report, device, backends[0])


def _streaming_shape(batch: int, *, chunk: int = 8, context: int = 64, heads: int = 4, head_dim: int = 64) -> Shape:
    return Shape(batch, heads, head_dim, chunk, context, chunk, context)


def _streaming_calls(name: str, jobs: Sequence[Job], *, turns_given: bool) -> list[Call]:
    if name == "ours":
        return [partial(ours, job) for job in jobs]
    if name == "flex":
        function = compiled(stream_flex)
    elif name == "sdpa":
        function = fastest_sdpa(jobs[0].shape, jobs[0].mask.device)
    else:
        function = stream_eager
    if turns_given:
        return [partial(function, *stream_inputs(job, turns_given=True)) for job in jobs]

    def whole(job: Job) -> Tensors:
        return *function(*stream_inputs(job, turns_given=False)), job.cache.next_tick + job.shape.ticks

    return [partial(whole, job) for job in jobs]


def _training_forward(name: str, job: Job) -> Callable[[], torch.Tensor]:
    if name == "ours":
        return lambda: ours(job)[0]
    if name == "flex":
        function, turns, mask = compiled(train_flex), job.turns, job.block_mask
        return lambda: function(job.query, job.key, job.value, *turns, mask)
    return partial({"eager": train_eager, "sdpa": train_sdpa}[name], job)


def _forward_and_backward(forward: Callable[[], torch.Tensor], job: Job, grad_out: torch.Tensor) -> Call:
    def run() -> Tensors:
        out = forward()
        return out.detach(), *torch.autograd.grad(out, (job.query, job.key, job.value), grad_out)

    return run


def _accept(row: Row, call: Call, wanted: Tensors) -> None:
    """Run once on poisoned memory and compare; raise if the result is not what was wanted."""
    limit = LIMITS[getattr(torch, row["dtype"])]
    if row["candidate"] == "ours":
        with poisoned():
            found = call()
    else:
        found, limit = call(), RIVAL_SLACK * limit
    assert isinstance(found, tuple)
    row["error"] = relative_error(found, wanted)
    if not row["error"] <= limit:
        raise ValueError(f"wrong: relative error {row['error']:.2g}, at most {limit:.2g} is allowed; not timed")


def _time(
    row: Row,
    calls: Sequence[Call],
    device: torch.device,
    counts_launches: bool,
    moved_bytes: int | None,
    copy_bandwidth: float | None,
) -> None:
    row["calls_a_sample"] = len(calls)
    row["launched"] = time_launched(calls, device)
    row["replayed"] = time_replayed(calls)
    row["launches"] = count_launches(calls[0]) if counts_launches else None
    if moved_bytes is not None and copy_bandwidth is not None:
        row["gb_s"] = moved_bytes / row["replayed"].median_us / 1e3
        row["share_of_copy"] = row["gb_s"] / copy_bandwidth


def _ours_like(report: Report, section: str, shape: Shape) -> Row | None:
    figures = shape.describe().items()
    rows = [row for row in report.of(section) if row["candidate"] == "ours"]
    return next((row for row in rows if figures <= row.items()), None)


def _show_section(report: Report, section: str) -> None:
    figures = {
        "accuracy": ["what", "dtype", "error"],
        "training": ["candidate", "launched", "replayed", "launches", "times_ours_launched", "times_ours_replayed"],
    }.get(section)
    if figures is None and report.copy_gb_s is None:
        figures = ["candidate", "median_us", "times_ours", "error"]
    elif figures is None:
        figures = ["candidate", "launched", "replayed", "launches", "gb_s", "share_of_copy"]
        figures += ["times_ours_launched", "times_ours_replayed"]
    figures += ["refused"]
    rows = [[_size_of(row), *(row.get(figure) for figure in figures)] for row in report.of(section)]
    show(section, ["size", *figures], rows)


def _size_of(row: Row) -> str:
    letters = {"B": "batch", "H": "heads", "D": "head_dim", "T": "ticks", "C": "chunk", "L": "cached"}
    return " ".join(f"{letter}{row[name]}" for letter, name in letters.items())


if __name__ == "__main__":
    main()
