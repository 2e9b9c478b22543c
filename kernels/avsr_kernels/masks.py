"""The one function of positions from which every attention mask is made."""

from __future__ import annotations

import torch


def chunk_visible(
    query_ticks: torch.Tensor, key_ticks: torch.Tensor, chunk_ticks: int, left_ticks: int
) -> torch.Tensor:
    """Say which keys each query may see.

    A query sees its own chunk, whole, and ``left_ticks`` before that chunk. With chunks of 2 and a left context of 2::

        key    0 1 2 3 4 5
        query 0 x x . . . .
              1 x x . . . .
              2 x x x x . .
              3 x x x x . .
              4 . . x x x x
              5 . . x x x x

    Args:
        query_ticks: integer (T,), counted from any chunk boundary.
        key_ticks: integer (S,), on the same count; negative ticks lie before that boundary.
        chunk_ticks: ticks in a chunk.
        left_ticks: ticks seen before the chunk.

    Returns:
        bool (T, S), True where the key may be seen.
    """
    chunk_start = torch.div(query_ticks, chunk_ticks, rounding_mode="floor")[:, None] * chunk_ticks
    keys = key_ticks[None, :]
    return (keys >= chunk_start - left_ticks) & (keys < chunk_start + chunk_ticks)
