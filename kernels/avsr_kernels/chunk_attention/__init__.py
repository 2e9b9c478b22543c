"""Chunked self-attention with limited left context, rotary positions and a carried key/value cache."""

from __future__ import annotations

import torch

from avsr_kernels import dispatch
from avsr_kernels.cache import KeyValueCache
from avsr_kernels.chunk_attention import reference

__all__ = ["chunk_attention"]


def chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    cache: KeyValueCache,
    *,
    chunk_ticks: int,
    left_ticks: int,
) -> tuple[torch.Tensor, KeyValueCache]:
    """Attend from T new ticks to their chunk and to ``left_ticks`` before it (mask: ``masks.chunk_visible``).

    The first new tick must lie on a chunk boundary. T may be one chunk (streaming), a shorter last chunk, or a whole
    utterance (training): one function serves both, so they cannot disagree. Positions are rotary (Su et al. 2021,
    "RoFormer", eq. 34) and enter only as differences, so that streams never run out of them (see ``rotary``).

    Args:
        query: (B, H, T, D); D even.
        key: (B, H, T, D).
        value: (B, H, T, D).
        mask: bool (B, T), False for new ticks that must not be attended to.
        cache: the L <= ``left_ticks`` ticks before the first new tick.
        chunk_ticks: ticks in a chunk.
        left_ticks: ticks seen before the chunk.

    Returns:
        (B, H, T, D), zero for queries that may see nothing, and the cache for the next call, which holds at most
        ``left_ticks`` ticks.
    """
    if dispatch.use_triton(query):
        from avsr_kernels.chunk_attention.operator import chunk_attention as fused

        return fused(query, key, value, mask, cache, chunk_ticks=chunk_ticks, left_ticks=left_ticks)
    return reference.chunk_attention(query, key, value, mask, cache, chunk_ticks=chunk_ticks, left_ticks=left_ticks)
