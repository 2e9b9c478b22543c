"""The gated mix against its contract, written out."""

from __future__ import annotations

import torch
from avsr_kernels import FusionCache, KeyValueCache, chunk_attention, gated_cross_attention


def test_mix_is_the_weighted_sum_of_two_cross_attentions() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = tuple(torch.randn(3, 2, 2, 8, 4, generator=generator, dtype=torch.float64))
    video = tuple(torch.randn(3, 2, 2, 8, 4, generator=generator, dtype=torch.float64))
    logits = torch.randn(2, 8, 2, generator=generator, dtype=torch.float64)
    heard, visible = torch.rand(2, 2, 8, generator=generator) > 0.4
    empty = KeyValueCache.empty(2, 2, 0, 4, like=logits)
    window = {"chunk_ticks": 4, "left_ticks": 3}
    mixed, weights, cache = gated_cross_attention(
        audio,
        video,
        logits,
        heard,
        visible,
        FusionCache(empty, empty),
        **window,  # type: ignore[arg-type]
    )
    sound, _ = chunk_attention(video[0], audio[1], audio[2], heard, empty, **window)
    lips, _ = chunk_attention(audio[0], video[1], video[2], visible, empty, **window)
    odds = logits.exp() * torch.stack([heard, visible], dim=-1)
    expected = odds / odds.sum(-1, keepdim=True).clamp_min(1e-30)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(mixed, expected[:, None, :, :1] * sound + expected[:, None, :, 1:] * lips)
    assert cache.audio.mask.shape == cache.video.mask.shape == (2, 3)
