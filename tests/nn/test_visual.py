"""The lip front end."""

from __future__ import annotations

import pytest
import torch

from avsr.config import ModelConfig
from avsr.nn import visual
from avsr.nn.visual import LipFrontEnd
from avsr.types import LIP_SIZE


def test_a_gpu_that_computes_hidden_ticks_too_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    front = LipFrontEnd(ModelConfig(vocab_size=10, dim=32, num_heads=2, lip_channels=(2, 3, 4, 4))).eval()
    lips = torch.randint(0, 256, (2, 5, LIP_SIZE, LIP_SIZE), dtype=torch.uint8)
    visible = torch.rand(2, 5) > 0.4
    with torch.inference_mode():
        picked, state = front.step(lips, visible, front.init_state(2))
        monkeypatch.setattr(visual, "_picking_waits", lambda mask: True)
        every, same_state = front.step(lips, visible, front.init_state(2))
    torch.testing.assert_close(every, picked, rtol=0, atol=1e-5)
    assert torch.equal(state, same_state)
    assert torch.all(every[~visible] == 0)
