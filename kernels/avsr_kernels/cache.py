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
    def empty(cls, batch: int, num_heads: int, ticks: int, head_dim: int, *, like: torch.Tensor) -> KeyValueCache:
        """Return a cache of ``ticks`` masked ticks, with the dtype and device of ``like``."""
        blank = like.new_zeros(batch, num_heads, ticks, head_dim)
        mask = torch.zeros(batch, ticks, dtype=torch.bool, device=blank.device)
        return cls(blank, blank, mask, torch.zeros(batch, dtype=torch.int32, device=blank.device))

    def append(
        self, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return key, value and mask of the ticks held, followed by newer ones."""
        return (
            torch.cat([self.key, key], dim=2),
            torch.cat([self.value, value], dim=2),
            torch.cat([self.mask, mask], dim=1),
        )

    def after(
        self, window: tuple[torch.Tensor, torch.Tensor, torch.Tensor], num_ticks: int, ticks: int
    ) -> KeyValueCache:
        """Return the cache of the newest ``ticks`` ticks of ``window``, whose last ``num_ticks`` are new."""
        key, value, mask = window
        kept = min(ticks, mask.shape[1])
        newest = mask.shape[1] - kept, kept
        return KeyValueCache(
            key.narrow(2, *newest), value.narrow(2, *newest), mask.narrow(1, *newest), self.next_tick + num_ticks
        )


@dataclass(frozen=True, slots=True)
class FusionCache:
    """The keys and values of both senses over the left context; both have the same length and ``next_tick``."""

    audio: KeyValueCache
    video: KeyValueCache
