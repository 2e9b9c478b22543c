"""Fixed-point rotary positions."""

from __future__ import annotations

import math

import torch
from avsr_kernels.rotary import BASE, cos_sin, rotate, turn_rates
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

HALF = 24


def turned(x: torch.Tensor, tick: int) -> torch.Tensor:
    """Turn the T ticks of ``x`` (T, D) as if the first were ``tick``."""
    wrapped = (tick + 2**31) % 2**32 - 2**31
    turns = cos_sin(torch.tensor([wrapped], dtype=torch.int32), x.shape[0], x.shape[1] // 2, x.dtype)
    return rotate(x[None, None], *turns)[0, 0]


@settings(deadline=None, max_examples=50)
@given(tick=st.integers(0, 2**40), seed=st.integers(0, 100))
def test_scores_are_the_same_at_any_tick(tick: int, seed: int) -> None:
    x, y = torch.randn(2, 9, 2 * HALF, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(turned(x, tick) @ turned(y, tick).T, turned(x, 0) @ turned(y, 0).T, atol=1e-12, rtol=0)


def test_turns_are_those_of_the_paper() -> None:
    ticks = 512
    cos, sin = cos_sin(torch.zeros(1, dtype=torch.int32), ticks, HALF, torch.float64)
    angles = torch.arange(ticks, dtype=torch.float64)[:, None] * BASE ** (
        -torch.arange(HALF, dtype=torch.float64) / HALF
    )
    torch.testing.assert_close(cos[0, 0], angles.cos().repeat(1, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(sin[0, 0], torch.cat([-angles.sin(), angles.sin()], dim=1), atol=1e-6, rtol=0)


def test_one_whole_turn_is_exactly_the_wrap() -> None:
    fastest = int(turn_rates(HALF, torch.device("cpu"))[0])
    assert math.isclose(fastest / 2**32 * math.tau, 1.0, rel_tol=1e-9)  # pair 0 turns by one radian a tick


def test_fake_tensors_leave_nothing_behind() -> None:
    with FakeTensorMode():
        fake, _ = cos_sin(torch.zeros(2, dtype=torch.int32), 11, HALF, torch.float32)
    real, _ = cos_sin(torch.zeros(2, dtype=torch.int32), 11, HALF, torch.float32)
    assert fake.shape == real.shape
    assert real[0, 0, 0].tolist() == [1.0] * 2 * HALF
