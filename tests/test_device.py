from unittest.mock import Mock

import pytest
import torch

from avsr.device import open_device
from avsr.errors import DeviceError
from avsr.train.machine import open_machine


def test_a_gpu_that_is_there_but_cannot_be_used_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that another process holds, or that is too old for this PyTorch, shows it only when it computes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", Mock(side_effect=RuntimeError("CUDA error: busy\nAPI calls may be late")))
    with pytest.raises(DeviceError, match=r"the GPU cannot be used \(CUDA error: busy\); use the device 'cpu'"):
        open_device("cuda")
    with pytest.raises(DeviceError, match="cannot be used"), open_machine("auto"):
        pass


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="'tpu'"):
        open_device("tpu")
