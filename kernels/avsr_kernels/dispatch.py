"""The one place that chooses between the PyTorch reference and the Triton kernels.

``AVSR_KERNELS`` says which: ``auto`` (the default) takes Triton on a GPU that can run it and the reference elsewhere;
``reference`` and ``triton`` force one. ``TRITON_INTERPRET=1``, set before Triton is imported, lets the Triton kernels
run on a CPU, slowly, to test them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from functools import cache

import torch

VARIABLE = "AVSR_KERNELS"
CHOICES = ("auto", "reference", "triton")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MAX_HEAD_DIM = 128
MIN_CAPABILITY = (8, 0)
"""Ampere: the first with bfloat16 matrix units and asynchronous copies."""

_log = logging.getLogger(__name__)


class KernelsUnavailableError(RuntimeError):
    """``AVSR_KERNELS`` asks for kernels that cannot run on this machine or for this input. The message says why."""


def use_triton(query: torch.Tensor) -> bool:
    """Say whether Triton computes attention for ``query`` (B, H, T, D).

    Raises:
        KernelsUnavailableError: ``AVSR_KERNELS`` is ``triton`` and Triton cannot, or it is no known choice.
    """
    decide = _constant if torch.compiler.is_compiling() else _decide
    return decide(os.environ.get(VARIABLE, "auto"), query.device, query.dtype, query.shape[-1])


def check_kernels(device: torch.device) -> None:
    """Raise ``KernelsUnavailableError``, before any work, if ``AVSR_KERNELS`` cannot be followed on ``device``."""
    _decide(os.environ.get(VARIABLE, "auto"), device, torch.float32, 64)


def _constant(choice: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    return _decide(choice, device, dtype, head_dim)


# Keeps the decision out of compiled graphs. It is what torch.compiler.assume_constant_result sets, without importing
# the whole compiler, and Triton with it.
_constant._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _decide(choice: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    if choice not in CHOICES:
        raise KernelsUnavailableError(f"AVSR_KERNELS is {choice!r}; it can be {', '.join(CHOICES)}")
    if choice == "reference":
        return False
    obstacle = _obstacle(device, dtype, head_dim)
    if choice == "triton":
        if obstacle is not None:
            raise KernelsUnavailableError(f"AVSR_KERNELS=triton, but {obstacle}; set AVSR_KERNELS=reference or auto")
        return True
    fused = obstacle is None and device.type == "cuda"
    if device.type == "cuda" and obstacle is not None:
        _log_once(logging.WARNING, f"attention on {device} in {dtype}: PyTorch, because {obstacle}")
    else:
        _log_once(logging.INFO, f"attention on {device} in {dtype}: {'Triton kernels' if fused else 'PyTorch'}")
    return fused


@cache
def _log_once(level: int, message: str) -> None:
    _log.log(level, message)


@cache
def _cannot_launch() -> str | None:
    """Let Triton compile its launcher now, with the machine's C compiler; return what went wrong, or None."""
    try:
        from triton.runtime.driver import driver

        driver.active.get_current_target()
    except Exception as error:  # of many kinds: no compiler, no headers, no driver, a cache that cannot be written
        return f"{type(error).__name__}: {error}"
    return None


def _obstacle(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Say what keeps Triton from running, None if nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if device.type == "cuda":
        if torch.version.hip is not None:
            return "the kernels are made for NVIDIA GPUs, and this PyTorch is for AMD's"
        if torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
            return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
        if (why := _cannot_launch()) is not None:
            return f"Triton cannot launch kernels here; it needs a C compiler and Python's headers: {why}"
    elif os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton kernels run on CUDA GPUs, not on {device.type} (TRITON_INTERPRET=1 simulates one, slowly)"
    if dtype not in DTYPES:
        return f"there are no kernels for {dtype}"
    if head_dim % 2 or head_dim > MAX_HEAD_DIM:
        return f"head dimension {head_dim} is not an even number up to {MAX_HEAD_DIM}"
    return None
