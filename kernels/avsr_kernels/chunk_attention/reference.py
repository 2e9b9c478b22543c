"""Chunked rotary attention in plain PyTorch: the meaning of the operation, and its CPU path."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from avsr_kernels.masks import chunk_visible

ROTARY_BASE = 10_000.0


def windowed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_mask: torch.Tensor,
    *,
    chunk_ticks: int,
    left_ticks: int,
) -> torch.Tensor:
    """Attend from the last T of S ticks to the S ticks that the chunk mask shows.

    Args:
        query: (B, H, T, D).
        key: (B, H, S, D), S >= T; its last T ticks are the queries' own.
        value: (B, H, S, D).
        key_mask: bool (B, S).
        chunk_ticks: ticks in a chunk; the first query lies on a chunk boundary.
        left_ticks: ticks seen before the chunk.

    Returns:
        (B, H, T, D), zero for queries that may see nothing.
    """
    num_queries, num_keys = query.shape[2], key.shape[2]
    key_ticks = torch.arange(num_queries - num_keys, num_queries, device=query.device)
    query_ticks = key_ticks[num_keys - num_queries :]
    visible = chunk_visible(query_ticks, key_ticks, chunk_ticks, left_ticks) & key_mask[:, None, None, :]
    out = F.scaled_dot_product_attention(
        rotate(query, query_ticks), rotate(key, key_ticks), value, attn_mask=visible | ~visible.any(-1, keepdim=True)
    )
    return out.masked_fill(~visible.any(-1, keepdim=True), 0.0)


def rotate(x: torch.Tensor, ticks: torch.Tensor) -> torch.Tensor:
    """Turn each pair of features by an angle that grows with the tick (Su et al. 2021, eq. 34).

    Args:
        x: (..., T, D), D even; feature i is paired with feature i + D/2.
        ticks: integer (T,).
    """
    half = x.shape[-1] // 2
    # In double precision: the same distance must give the same turn wherever in the window it lies.
    rates = ROTARY_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angles = ticks.to(torch.float64)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
