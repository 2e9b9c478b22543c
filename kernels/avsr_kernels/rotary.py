"""Rotary positions in fixed point: as exact after a month of streaming as in the first second.

Su et al. 2021 ("RoFormer", eq. 34) turn feature pair i of a query or key at tick t by the angle
``t * base ** (-i / half)``. Here angles are 32-bit integers in units of 2**-32 turns, and ticks are 32-bit integers.
Their product wraps around by whole turns only, so the turn between two ticks depends exactly on their distance alone,
though both numbers are bounded. So keys are turned once, when they are new, and cached turned.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache

import torch

BASE = 10_000.0
WHOLE_TURN = 2**32


@cache
def turn_rates(half: int, device: torch.device) -> torch.Tensor:
    """Return int32 (half,): the turn of each feature pair in one tick."""
    rates = [round(BASE ** (-i / half) / math.tau * WHOLE_TURN) for i in range(half)]
    return torch.tensor(rates, dtype=torch.int32, device=device)


def cos_sin(
    next_tick: torch.Tensor, num_ticks: int, half: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cosines and sines that ``rotate`` takes, each (B, 1, num_ticks, 2 half).

    Args:
        next_tick: int32 (B,), the first of the ticks; wraps around.
        num_ticks: how many.
        half: feature pairs.
        dtype: of the features; angles are computed in at least single precision.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # sizes are tensors then: no key of a cache
        num_ticks, half = int(num_ticks), int(half)
    real = type(next_tick) is torch.Tensor  # the tables of a fake tensor are fake too, and must not be cached
    # A GPU's tables are not cached either: a captured CUDA graph would go on reading one that the cache has dropped.
    tables = _kept_tables if real and next_tick.device.type == "cpu" else _tables
    rates, turns_within = tables((turn_rates if real else turn_rates.__wrapped__)(half, next_tick.device), num_ticks)
    turns = (next_tick.view(-1, 1, 1, 1) * rates + turns_within).to(torch.int32)
    angles = turns.to(torch.promote_types(dtype, torch.float32)) * (math.tau / WHOLE_TURN)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn feature pairs (i, i + D/2) of ``x`` (B, H, T, D) by the angles of ``cos_sin``."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _tables(rates: torch.Tensor, num_ticks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int64 (2 half,) turns in one tick, and (num_ticks, 2 half) from the first of a call's ticks to each.

    The first feature of a pair needs -sin where the second needs sin, so it gets the opposite angle; the cosine is the
    same. In 64 bits no product of two 32-bit integers overflows.
    """
    rates = rates.long()
    rates = torch.cat([-rates, rates])
    return rates, torch.arange(num_ticks, device=rates.device)[:, None] * rates


_kept_tables = lru_cache(maxsize=64)(_tables)
"""The cache compares tensors by identity; ``turn_rates`` returns the same one for the same sizes."""
