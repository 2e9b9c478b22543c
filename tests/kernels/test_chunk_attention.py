"""Chunk attention against a plain float64 loop over queries and keys."""

from __future__ import annotations

import math

import torch
from avsr_kernels import KeyValueCache, chunk_attention
from avsr_kernels.masks import chunk_visible
from avsr_kernels.rotary import BASE, cos_sin, rotate
from hypothesis import given, settings
from hypothesis import strategies as st


def attend_slowly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, offset: int, chunk: int, left: int
) -> torch.Tensor:
    """One query at a time, complex rotation, no masks as tensors; ``offset`` keys come before the first query."""
    out = torch.zeros_like(query)
    half = query.shape[-1] // 2
    rates = torch.tensor([BASE ** (-i / half) for i in range(half)], dtype=torch.float64)
    for b, h, t in [
        (b, h, t) for b in range(query.shape[0]) for h in range(query.shape[1]) for t in range(query.shape[2])
    ]:
        begin = (t // chunk) * chunk
        seen = [s for s in range(key.shape[2]) if begin - left <= s - offset < begin + chunk and mask[b, s]]
        if not seen:
            continue
        q = torch.complex(query[b, h, t, :half], query[b, h, t, half:])
        scores = []
        for s in seen:
            k = torch.complex(key[b, h, s, :half], key[b, h, s, half:])
            turn = torch.polar(torch.ones_like(rates), rates * (t - (s - offset)))
            scores.append((q * turn * k.conj()).real.sum() / math.sqrt(2 * half))
        weights = torch.stack(scores).softmax(0)
        out[b, h, t] = sum(w * value[b, h, s] for w, s in zip(weights, seen, strict=True))
    return out


@settings(deadline=None, max_examples=40)
@given(
    ticks=st.integers(1, 11),
    cached=st.integers(0, 5),
    chunk=st.integers(1, 5),
    left=st.integers(5, 7),
    head_dim=st.sampled_from([2, 6, 8]),
    seed=st.integers(0, 1000),
)
def test_reference_equals_the_slow_loop(
    ticks: int, cached: int, chunk: int, left: int, head_dim: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, 2, 2, ticks + cached, head_dim, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, ticks + cached, generator=generator) > 0.4
    next_tick = torch.randint(-(2**31), 2**31 - 1, (2,), generator=generator).to(torch.int32)  # also where it wraps
    turned = rotate(key, *cos_sin(next_tick - cached, ticks + cached, head_dim // 2, key.dtype))
    cache = KeyValueCache(turned[:, :, :cached], value[:, :, :cached], mask[:, :cached], next_tick)
    query = query[:, :, cached:]
    out, new = chunk_attention(
        query, key[:, :, cached:], value[:, :, cached:], mask[:, cached:], cache, chunk_ticks=chunk, left_ticks=left
    )
    torch.testing.assert_close(out, attend_slowly(query, key, value, mask, cached, chunk, left), atol=1e-6, rtol=1e-5)
    kept = min(left, ticks + cached)
    assert torch.equal(new.key, turned[:, :, ticks + cached - kept :])
    assert torch.equal(new.next_tick, next_tick + ticks)
    assert torch.equal(new.mask, mask[:, ticks + cached - kept :])


def test_queries_that_may_see_nothing_give_zeros_and_finite_gradients() -> None:
    query = torch.randn(1, 1, 4, 8, requires_grad=True)
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    out, _ = chunk_attention(
        query, query, query, nothing, KeyValueCache.empty(1, 1, 2, 8, like=query), chunk_ticks=2, left_ticks=2
    )
    assert torch.all(out == 0)
    out.sum().backward()
    assert query.grad is not None and query.grad.isfinite().all()


def test_mask_is_the_one_in_the_docstring() -> None:
    ticks = torch.arange(6)
    drawn = ["xx....", "xx....", "xxxx..", "xxxx..", "..xxxx", "..xxxx"]
    assert chunk_visible(ticks, ticks, 2, 2).tolist() == [[c == "x" for c in row] for row in drawn]
