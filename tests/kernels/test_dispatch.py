"""Which implementation runs, and what is said when it cannot."""

from __future__ import annotations

import logging

import pytest
import torch
from avsr_kernels import KernelsUnavailableError, dispatch

QUERY = torch.zeros(1, 1, 1, 64)


@pytest.fixture(autouse=True)
def forget_decisions() -> None:
    dispatch._decide.cache_clear()
    dispatch._log_once.cache_clear()


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    return lambda choice: monkeypatch.setenv("AVSR_KERNELS", choice)


def test_cpus_take_the_reference_unless_told_otherwise(choose) -> None:  # type: ignore[no-untyped-def]
    for choice in "auto", "reference":
        choose(choice)
        assert not dispatch.use_triton(QUERY)


def test_auto_logs_its_choice_once(choose, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    choose("auto")
    with caplog.at_level(logging.INFO, logger="avsr_kernels.dispatch"):
        for _ in range(3):
            dispatch.use_triton(QUERY)
    assert [record.getMessage() for record in caplog.records] == ["attention on cpu in torch.float32: PyTorch"]


def test_an_unknown_choice_is_refused(choose) -> None:  # type: ignore[no-untyped-def]
    choose("fast")
    with pytest.raises(KernelsUnavailableError, match="'fast'; it can be auto, reference, triton"):
        dispatch.use_triton(QUERY)


def test_triton_on_a_cpu_is_refused_with_the_reason(choose, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    choose("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(KernelsUnavailableError, match="run on CUDA GPUs, not on cpu"):
        dispatch.use_triton(QUERY)
    with pytest.raises(KernelsUnavailableError, match="AVSR_KERNELS=reference or auto"):
        dispatch.check_kernels(torch.device("cpu"))


@pytest.mark.parametrize(
    ("query", "reason"),
    [(QUERY.double(), "no kernels for torch.float64"), (torch.zeros(1, 1, 1, 130), "head dimension 130")],
)
def test_triton_refuses_what_it_has_no_kernel_for(
    choose, monkeypatch: pytest.MonkeyPatch, query: torch.Tensor, reason: str
) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("triton")
    choose("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(KernelsUnavailableError, match=reason):
        dispatch.use_triton(query)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine on which Triton finds no driver")
def test_a_gpu_for_which_triton_cannot_build_a_launcher_takes_the_reference(
    choose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # type: ignore[no-untyped-def]
    """As where there is no C compiler: it is said at once, not by a traceback at the first chunk."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    choose("triton")
    with pytest.raises(KernelsUnavailableError, match="needs a C compiler"):
        dispatch.check_kernels(torch.device("cuda"))
    choose("auto")
    dispatch.check_kernels(torch.device("cuda"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "PyTorch, because Triton cannot launch kernels here" in record.getMessage()
