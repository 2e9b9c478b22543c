"""Gated cross-attention in plain PyTorch: the meaning of the operation, and its CPU path."""

from __future__ import annotations

import torch

from avsr_kernels.cache import FusionCache
from avsr_kernels.chunk_attention.reference import windowed_attention
from avsr_kernels.rotary import cos_sin, rotate


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
    """See ``avsr_kernels.gated_cross_attention``."""
    num_ticks, half = gate_logits.shape[1], audio[0].shape[-1] // 2
    turns = cos_sin(cache.audio.next_tick, num_ticks, half, audio[0].dtype)
    heard_window = cache.audio.append(rotate(audio[1], *turns), audio[2], heard)
    seen_window = cache.video.append(rotate(video[1], *turns), video[2], visible)
    sound = windowed_attention(rotate(video[0], *turns), *heard_window, chunk_ticks=chunk_ticks, left_ticks=left_ticks)
    lips = windowed_attention(rotate(audio[0], *turns), *seen_window, chunk_ticks=chunk_ticks, left_ticks=left_ticks)
    weights = masked_softmax(gate_logits, torch.stack([heard, visible], dim=-1))
    mixed = weights[:, None, :, :1] * sound + weights[:, None, :, 1:] * lips
    new = FusionCache(
        cache.audio.after(heard_window, num_ticks, left_ticks), cache.video.after(seen_window, num_ticks, left_ticks)
    )
    return mixed, weights, new


def masked_softmax(logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis among the entries present; zeros where none is."""
    lowest = torch.finfo(logits.dtype).min
    return torch.softmax(logits.masked_fill(~present, lowest), dim=-1) * present
