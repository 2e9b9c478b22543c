"""Where a network runs: a processor, or a GPU that was tried."""

from __future__ import annotations

import torch
from avsr_kernels import KernelsUnavailableError, check_kernels

from avsr.errors import DeviceError


def open_device(name: str, index: int | None = None) -> torch.device:
    """Return the device "cpu" or "cuda"; ``index`` says which GPU, None PyTorch's current one.

    Raises:
        DeviceError: it is unknown, not there or cannot be used, or ``AVSR_KERNELS`` asks for kernels that do not run
            on it.
    """
    if name not in ("cpu", "cuda"):
        raise DeviceError(f"{name!r} is no device that avsr knows; use 'cpu' or 'cuda'")
    device = torch.device(name if index is None else f"{name}:{index}")
    try:
        if name == "cuda":
            _try_gpu(device)
        check_kernels(device)
    except KernelsUnavailableError as error:
        raise DeviceError(str(error)) from error
    return device


def _try_gpu(device: torch.device) -> None:
    """Run one operation: a GPU that is held by another process, or too old for this PyTorch, fails only when used."""
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to this PyTorch; use the device 'cpu'")
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"the GPU cannot be used ({reason}); use the device 'cpu'") from error
