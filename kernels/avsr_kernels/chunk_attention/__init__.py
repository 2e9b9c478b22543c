"""Chunked self-attention with limited left context, rotary positions and a carried key/value cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avsr_kernels.chunk_attention import reference

__all__ = ["KeyValueCache", "chunk_attention"]


@dataclass(frozen=True, slots=True)
class KeyValueCache:
    """Keys and values of the L ticks before the next one, newest last; not yet rotated.

    ``key`` and ``value`` (B, H, L, D); ``mask`` bool (B, L), False where a tick must not be attended to.
    """

    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def empty(
        cls, batch: int, num_heads: int, ticks: int, head_dim: int, *, like: torch.Tensor | None = None
    ) -> KeyValueCache:
        """Return a cache of ``ticks`` masked ticks, with the dtype and device of ``like``."""
        blank = (
            torch.zeros(batch, num_heads, ticks, head_dim)
            if like is None
            else like.new_zeros(batch, num_heads, ticks, head_dim)
        )
        return cls(blank, blank, torch.zeros(batch, ticks, dtype=torch.bool, device=blank.device))

    def append(self, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> KeyValueCache:
        """Return the cache followed by newer ticks; nothing is dropped."""
        return KeyValueCache(
            torch.cat([self.key, key], dim=2),
            torch.cat([self.value, value], dim=2),
            torch.cat([self.mask, mask], dim=1),
        )

    def newest(self, ticks: int) -> KeyValueCache:
        """Return the last ``ticks`` ticks (fewer where fewer are held)."""
        start = max(0, self.mask.shape[1] - ticks)
        return KeyValueCache(self.key[:, :, start:], self.value[:, :, start:], self.mask[:, start:])


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
    "RoFormer", eq. 34) and enter only as differences, so that streams never run out of them.

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
    window = cache.append(key, value, mask)
    out = reference.windowed_attention(
        query, window.key, window.value, window.mask, chunk_ticks=chunk_ticks, left_ticks=left_ticks
    )
    return out, window.newest(left_ticks)
