"""Laws of every fusion: an absent sense has no weight and no way in, and what is learned from is used."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from avsr.config import FusionKind, ModelConfig
from avsr.nn.attention import Window
from avsr.nn.fusion import FixedFusion, Fusion, FusionOutput, make_fusion

KINDS: tuple[FusionKind, ...] = get_args(FusionKind)
TICKS, WINDOW = 8, Window(chunk_ticks=4, left_ticks=4)
every_kind = pytest.mark.parametrize("kind", KINDS)


def sizes(kind: FusionKind) -> ModelConfig:
    return ModelConfig(vocab_size=5, dim=16, num_heads=2, fusion_context_ticks=4, fusion=kind)


def make(kind: FusionKind) -> Fusion:
    torch.manual_seed(0)
    fusion = make_fusion(sizes(kind))
    with torch.no_grad():
        for name, vector in fusion.named_parameters():
            if name.endswith("_absent"):
                vector.normal_()
    return fusion


def features(seed: int) -> torch.Tensor:
    return torch.randn(1, TICKS, 16, generator=torch.Generator().manual_seed(seed))


def fuse(fusion: Fusion, audio: int, video: int, heard: bool, visible: bool) -> FusionOutput:
    mask = torch.ones(1, TICKS, dtype=torch.bool)
    state = fusion.init_state(1, 4)
    return fusion.step(features(audio), features(video), mask & heard, mask & visible, state, WINDOW)[0]


@every_kind
def test_an_absent_sense_weighs_nothing(kind: FusionKind) -> None:
    fusion = make(kind)
    assert torch.all(fuse(fusion, 1, 2, True, False).audio_weight == 1)
    assert torch.all(fuse(fusion, 1, 2, False, True).audio_weight == 0)
    weight = fuse(fusion, 1, 2, True, True).audio_weight
    assert torch.all((weight > 0) & (weight < 1))
    assert torch.all(weight == 0.5) == (kind != "gated")


@every_kind
def test_an_absent_sense_cannot_be_felt(kind: FusionKind) -> None:
    fusion = make(kind)
    assert torch.equal(fuse(fusion, 1, 2, True, False).fused, fuse(fusion, 1, 3, True, False).fused)
    assert torch.equal(fuse(fusion, 1, 2, False, True).fused, fuse(fusion, 3, 2, False, True).fused)
    assert not torch.equal(fuse(fusion, 1, 2, True, True).fused, fuse(fusion, 1, 3, True, True).fused)


@every_kind
def test_no_sense_at_all_gives_finite_features(kind: FusionKind) -> None:
    output = fuse(make(kind), 1, 2, False, False)
    assert output.fused.isfinite().all()
    assert torch.all(output.audio_weight == 0)


@every_kind
def test_every_weight_learns(kind: FusionKind) -> None:
    """What never has a gradient would stop a distributed training, and be carried along for nothing."""
    fusion = make(kind)
    heard, visible = torch.tensor([[True, False] * 4]), torch.tensor([[True, True, False, True] * 2])
    output, _ = fusion.step(features(1), features(2), heard, visible, fusion.init_state(1, 0), WINDOW)
    loss = (output.fused * features(3)).sum() + (output.snr_db * heard).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert [name for name, x in fusion.named_parameters() if x.grad is None or not x.grad.any()] == []


@pytest.mark.parametrize("kind", ["fixed", "concat"])
def test_a_fusion_of_single_ticks_remembers_nothing(kind: FusionKind) -> None:
    fusion = make(kind)
    mask = torch.ones(1, TICKS, dtype=torch.bool)
    state = fusion.init_state(1, 64)
    _, later = fusion.step(features(1), features(2), mask, mask, state, WINDOW)
    assert later is state
    assert state.audio.mask.shape == state.video.mask.shape == (1, 0)


def test_equal_gates_are_no_gates() -> None:
    gated, ungated = make("gated"), make("ungated")
    weights = {name: x for name, x in gated.state_dict().items() if not name.startswith("gate.")}
    ungated.load_state_dict(weights)
    with torch.no_grad():
        for name, x in gated.named_parameters():
            if name.startswith("gate.2."):
                x.zero_()
    torch.testing.assert_close(fuse(gated, 1, 2, True, True).fused, fuse(ungated, 1, 2, True, True).fused)


def test_fixed_weights_are_the_mean_of_both_senses() -> None:
    fusion = make("fixed")
    assert isinstance(fusion, FixedFusion)
    mean = 0.5 * (fusion.audio_norm(features(1)) + fusion.video_norm(features(2)))
    torch.testing.assert_close(fuse(fusion, 1, 2, True, True).fused, fusion.norm(mean))
