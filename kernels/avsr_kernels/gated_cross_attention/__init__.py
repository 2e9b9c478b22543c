"""Cross-attention between sound and lips over the chunk window, mixed by how far each sense can be trusted."""

from __future__ import annotations

import torch

from avsr_kernels import dispatch
from avsr_kernels.cache import FusionCache
from avsr_kernels.gated_cross_attention import reference

__all__ = ["gated_cross_attention"]


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
    if dispatch.use_triton(audio[0]):
        from avsr_kernels.gated_cross_attention.operator import gated_cross_attention as fused

        return fused(audio, video, gate_logits, heard, visible, cache, chunk_ticks=chunk_ticks, left_ticks=left_ticks)
    return reference.gated_cross_attention(
        audio, video, gate_logits, heard, visible, cache, chunk_ticks=chunk_ticks, left_ticks=left_ticks
    )
