"""Gated cross-attention in plain PyTorch: the meaning of the operation, and its CPU path."""

from __future__ import annotations

import torch

from avsr_kernels.chunk_attention import KeyValueCache
from avsr_kernels.chunk_attention.reference import windowed_attention


def gated_mix(
    audio_query: torch.Tensor,
    video_query: torch.Tensor,
    audio: KeyValueCache,
    video: KeyValueCache,
    gate_logits: torch.Tensor,
    present: torch.Tensor,
    *,
    chunk_ticks: int,
    left_ticks: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mix (B, H, T, D) and the weights (B, T, 2); shapes as in ``gated_cross_attention``.

    ``audio`` and ``video`` hold the keys and values of the left context and the T new ticks; ``present`` is
    bool (B, T, 2), audio first.
    """
    sound = windowed_attention(
        video_query, audio.key, audio.value, audio.mask, chunk_ticks=chunk_ticks, left_ticks=left_ticks
    )
    lips = windowed_attention(
        audio_query, video.key, video.value, video.mask, chunk_ticks=chunk_ticks, left_ticks=left_ticks
    )
    weights = masked_softmax(gate_logits, present)
    mixed = weights[:, None, :, :1] * sound + weights[:, None, :, 1:] * lips
    return mixed, weights


def masked_softmax(logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis among the entries present; zeros where none is."""
    lowest = torch.finfo(logits.dtype).min
    return torch.softmax(logits.masked_fill(~present, lowest), dim=-1) * present
