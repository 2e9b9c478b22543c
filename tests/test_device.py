import pytest
import torch

from avsr.device import open_device
from avsr.errors import DeviceError
from avsr.train.machine import open_machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_there_but_cannot_be_used_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that another process holds, or that is too old for this PyTorch, shows it only when it computes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DeviceError, match=r"the GPU cannot be used \(.*\); use the device 'cpu'"):
        open_device("cuda")
    with pytest.raises(DeviceError, match="cannot be used"), open_machine("auto"):
        pass


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="'tpu'"):
        open_device("tpu")
