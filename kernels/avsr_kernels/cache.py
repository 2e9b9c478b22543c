"""What attention remembers from one call to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class KeyValueCache:
    """Keys and values of the L ticks before the next one, newest last.

    ``key`` (B, H, L, D), already turned by its tick (see ``rotary``), and ``value`` (B, H, L, D); ``mask`` bool (B, L),
    False where a tick must not be attended to; ``next_tick`` int32 (B,), the tick that comes next, which wraps around.
    """

    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor
    next_tick: torch.Tensor

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
        mask = torch.zeros(batch, ticks, dtype=torch.bool, device=blank.device)
        return cls(blank, blank, mask, torch.zeros(batch, dtype=torch.int32, device=blank.device))

    def append(self, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> KeyValueCache:
        """Return the cache followed by newer ticks; nothing is dropped."""
        return KeyValueCache(
            torch.cat([self.key, key], dim=2),
            torch.cat([self.value, value], dim=2),
            torch.cat([self.mask, mask], dim=1),
            self.next_tick + mask.shape[1],
        )

    def newest(self, ticks: int) -> KeyValueCache:
        """Return the last ``ticks`` ticks (fewer where fewer are held)."""
        held = self.mask.shape[1]
        if held <= ticks:
            return self
        window = held - ticks, ticks
        return KeyValueCache(
            self.key.narrow(2, *window), self.value.narrow(2, *window), self.mask.narrow(1, *window), self.next_tick
        )


@dataclass(frozen=True, slots=True)
class FusionCache:
    """The keys and values of both senses over the left context; both count the same ticks."""

    audio: KeyValueCache
    video: KeyValueCache
