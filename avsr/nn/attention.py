"""Multi-head chunked self-attention, as a stage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from avsr_kernels import KeyValueCache, chunk_attention
from torch import nn


@dataclass(frozen=True, slots=True)
class Window:
    """What attention sees of a stream: a tick's own chunk of ``chunk_ticks``, whole, and ``left_ticks`` before it."""

    chunk_ticks: int
    left_ticks: int


class ChunkSelfAttention(nn.Module):
    """Self-attention within a chunk and a limited left context.

    State: keys and values of the left context, a ``KeyValueCache`` of at most ``Window.left_ticks`` ticks.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self._num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def init_state(self, batch: int, context_ticks: int) -> KeyValueCache:
        """Return an empty past that is ``context_ticks`` long (0 saves work for whole utterances)."""
        weight = self.project.weight
        head_dim = weight.shape[0] // self._num_heads
        return KeyValueCache.empty(batch, self._num_heads, context_ticks, head_dim, like=weight)

    def step(
        self, x: torch.Tensor, mask: torch.Tensor, state: KeyValueCache, window: Window
    ) -> tuple[torch.Tensor, KeyValueCache]:
        """Map ``x`` (B, T, dim) to the same shape; ``mask`` bool (B, T) hides padding; the residual is the caller's."""
        query, key, value = split_heads(self.query_key_value(self.norm(x)), 3, self._num_heads)
        y, state = chunk_attention(
            query, key, value, mask, state, chunk_ticks=window.chunk_ticks, left_ticks=window.left_ticks
        )
        return self.dropout(self.project(join_heads(y))), state


def split_heads(x: torch.Tensor, parts: int, num_heads: int) -> tuple[torch.Tensor, ...]:
    """Cut (B, T, parts * H * D) into ``parts`` tensors (B, H, T, D)."""
    batch, ticks, width = x.shape
    return x.view(batch, ticks, parts, num_heads, width // (parts * num_heads)).permute(2, 0, 3, 1, 4).unbind(0)


def join_heads(x: torch.Tensor) -> torch.Tensor:
    """Turn (B, H, T, D) into (B, T, H * D)."""
    return x.transpose(1, 2).flatten(2)
