"""Cross-attention between sound and lips over the chunk window, mixed by how far each sense can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avsr_kernels.chunk_attention import KeyValueCache
from avsr_kernels.gated_cross_attention import reference

__all__ = ["FusionCache", "gated_cross_attention"]


@dataclass(frozen=True, slots=True)
class FusionCache:
    """The keys and values of both senses over the left context."""

    audio: KeyValueCache
    video: KeyValueCache


def gated_cross_attention(
    audio: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    video: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    gate_logits: torch.Tensor,
    heard: torch.Tensor,
    visible: torch.Tensor,
    cache: FusionCache,
    *,
    chunk_ticks: int,
    left_ticks: int,
) -> tuple[torch.Tensor, torch.Tensor, FusionCache]:
    """Let each sense ask the other, and weigh what was found by the trust in the sense that it came from.

    Audio ticks query lip keys, lip ticks query audio keys. The weight of the sound scales everything whose *values*
    are sound, so a distrusted sense cannot leak in through the other's questions::

        weights = softmax(gate_logits) over the senses present, 0 for an absent one
        mixed   = weights.audio * attend(video.query, audio.key, audio.value)
                + weights.video * attend(audio.query, video.key, video.value)

    Args:
        audio: query, key and value of the sound, each (B, H, T, D).
        video: query, key and value of the lips, each (B, H, T, D).
        gate_logits: (B, T, 2), audio first.
        heard: bool (B, T), False where there is no sound.
        visible: bool (B, T), False where there are no lips.
        cache: both senses' keys and values before the first new tick.
        chunk_ticks: ticks in a chunk; the first new tick lies on a chunk boundary.
        left_ticks: ticks seen before the chunk.

    Returns:
        The mix (B, H, T, D); the weights (B, T, 2), audio first, which sum to 1 where either sense is present and are
        0 elsewhere; the cache for the next call.
    """
    heard_window = cache.audio.append(audio[1], audio[2], heard)
    seen_window = cache.video.append(video[1], video[2], visible)
    mixed, weights = reference.gated_mix(
        audio[0],
        video[0],
        heard_window,
        seen_window,
        gate_logits,
        torch.stack([heard, visible], dim=-1),
        chunk_ticks=chunk_ticks,
        left_ticks=left_ticks,
    )
    return mixed, weights, FusionCache(heard_window.newest(left_ticks), seen_window.newest(left_ticks))
