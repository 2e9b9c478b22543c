"""Chunked rotary attention in plain PyTorch: the meaning of the operation, and its CPU path."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from avsr_kernels.cache import KeyValueCache
from avsr_kernels.masks import chunk_visible
from avsr_kernels.rotary import cos_sin, rotate


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
    """See ``avsr_kernels.chunk_attention``."""
    turns = cos_sin(cache.next_tick, query.shape[2], query.shape[3] // 2, query.dtype)
    window = cache.append(rotate(key, *turns), value, mask)
    out = windowed_attention(rotate(query, *turns), *window, chunk_ticks=chunk_ticks, left_ticks=left_ticks)
    return out, cache.after(window, query.shape[2], left_ticks)


def windowed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    chunk_ticks: int,
    left_ticks: int,
) -> torch.Tensor:
    """Attend from T queries to the part of the S ticks that the chunk mask shows.

    Args:
        query: (B, H, T, D), turned by its ticks; the first lies on a chunk boundary.
        key: (B, H, S, D), turned; S >= T, the last T ticks are the queries' own.
        value: (B, H, S, D).
        mask: bool (B, S).
        chunk_ticks: ticks in a chunk.
        left_ticks: ticks seen before the chunk.

    Returns:
        (B, H, T, D), zero for queries that may see nothing.
    """
    num_queries, num_keys = query.shape[2], key.shape[2]
    visible = mask.view(-1, 1, 1, num_keys)
    if num_queries > chunk_ticks or num_keys - num_queries > left_ticks:  # else every query may see all keys
        key_ticks = torch.arange(num_queries - num_keys, num_queries, device=query.device)
        query_ticks = key_ticks[num_keys - num_queries :]
        visible = visible & chunk_visible(query_ticks, key_ticks, chunk_ticks, left_ticks)
    if not query.is_cuda:  # PyTorch gives zeros, and gradients of zero, where all is hidden
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    # cuDNN, which PyTorch may use on a GPU, masks with a large negative number, so a row that is all masked sees all.
    blind = ~visible.any(-1, keepdim=True)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible | blind).masked_fill(blind, 0.0)
