"""Laws of the gates: an absent sense has no weight and no way in."""

from __future__ import annotations

import torch

from avsr.config import ModelConfig
from avsr.nn.fusion import GatedFusion

CONFIG = ModelConfig(vocab_size=5, dim=16, num_heads=2, fusion_context_ticks=4)
TICKS = 8


def fuse(audio: torch.Tensor, video: torch.Tensor, heard: bool, visible: bool) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    fusion = GatedFusion(CONFIG)
    mask = torch.ones(1, TICKS, dtype=torch.bool)
    with torch.inference_mode():
        output, _ = fusion.step(audio, video, mask & heard, mask & visible, fusion.init_state(1, 4), 4)
    return output.fused, output.audio_weight


def features(seed: int) -> torch.Tensor:
    return torch.randn(1, TICKS, CONFIG.dim, generator=torch.Generator().manual_seed(seed))


def test_an_absent_sense_weighs_nothing() -> None:
    assert torch.all(fuse(features(1), features(2), True, False)[1] == 1)
    assert torch.all(fuse(features(1), features(2), False, True)[1] == 0)
    weight = fuse(features(1), features(2), True, True)[1]
    assert torch.all((weight > 0) & (weight < 1))


def test_an_absent_sense_cannot_be_felt() -> None:
    assert torch.equal(fuse(features(1), features(2), True, False)[0], fuse(features(1), features(3), True, False)[0])
    assert torch.equal(fuse(features(1), features(2), False, True)[0], fuse(features(3), features(2), False, True)[0])


def test_no_sense_at_all_gives_finite_features() -> None:
    fused, weight = fuse(features(1), features(2), False, False)
    assert fused.isfinite().all()
    assert torch.all(weight == 0)
