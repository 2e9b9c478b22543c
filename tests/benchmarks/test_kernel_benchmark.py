"""The kernel benchmark refuses to time a wrong result, and its captured step gives what the launched one does."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``benchmarks/kernels.py``, as if the packages that run the whole network were not installed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("kernel_benchmark", BENCHMARKS / "kernels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "_model_sections", None)
    return module


def test_on_a_cpu_every_streaming_shape_is_checked_timed_and_written(benchmark: ModuleType, tmp_path: Path) -> None:
    report = benchmark.Report({}, tmp_path / "figures.json")
    benchmark.run_on_cpu(report, rounds=2)
    figures = json.loads((tmp_path / "figures.json").read_text())
    timed = [row for row in figures["rows"] if row["section"] == "streaming"]
    assert len(timed) == 6 * 3
    assert {row["candidate"] for row in timed} == {"ours", "eager", "sdpa"}
    assert all(row["ticks"] + row["cached"] == 80 and row["median_us"] > 0 and row["error"] < 1e-5 for row in timed)
    assert figures["failures"] == []
    (target,) = figures["targets"]
    assert target["measured"] == max(row["times_best_rival"] for row in timed if row["candidate"] == "ours")


def test_a_wrong_kernel_is_never_timed(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = benchmark.ours

    def wrong(job: Any) -> tuple[torch.Tensor, ...]:
        out, *cache = right(job)
        return out * 1.001, *cache

    monkeypatch.setattr(benchmark, "ours", wrong)
    report = benchmark.Report({}, None)
    benchmark.run_on_cpu(report, rounds=2)
    refused = [row for row in report.of("streaming") if row["candidate"] == "ours"]
    assert refused and all("wrong" in row["refused"] and "median_us" not in row for row in refused)
    assert len(report.failures) >= len(refused)


def test_figures_of_a_gpu_are_judged_without_those_of_the_whole_network(benchmark: ModuleType, tmp_path: Path) -> None:
    report = benchmark.Report({"kernels": "triton"}, tmp_path / "figures.json", copy_gb_s=4000.0)
    benchmark._run_model_sections(report, torch.device("cuda"), capacity_until=0.0)
    report.save()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert "_model_sections" in figures["rows"][0]["refused"]
    assert {target["met"] for target in figures["targets"]} == {None}


def test_an_element_that_is_never_written_is_noticed(benchmark: ModuleType) -> None:
    with benchmark.poisoned():
        unwritten = torch.empty(3)
    assert benchmark.relative_error((unwritten,), (torch.ones(3),)) == float("inf")


def test_a_graphed_step_carries_the_state_from_chunk_to_chunk(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _model_step as model_step  # type: ignore[import-not-found]

    class Rerun:
        """Stands in for a captured graph: does the work again and puts the results where the first ones were."""

        def __init__(self, work: Callable[[], Any]) -> None:
            self._work, self.outputs = work, work()

        def replay(self) -> None:
            for place, x in zip(model_step.tensors_of(self.outputs), model_step.tensors_of(self._work()), strict=True):
                place.copy_(x)

    def capture(work: Callable[[], Any]) -> tuple[Rerun, Any]:
        graph = Rerun(work)
        return graph, graph.outputs

    monkeypatch.setattr(model_step, "capture", capture)
    model = model_step.load_default_model(torch.device("cpu"), torch.float32)
    chunks = [model_step.draw_chunk(2, 4, torch.float32) for _ in range(3)]
    with torch.inference_mode():
        launched, graphed = model_step.LaunchedStep(model, chunks[0]), model_step.GraphedStep(model, chunks[0])
        for chunk in chunks:
            torch.testing.assert_close(graphed(chunk).values, launched(chunk).values, rtol=0, atol=1e-5)
