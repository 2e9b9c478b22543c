"""The Triton kernels against the reference in double precision: values, new state and gradients.

On a machine without a GPU they run in Triton's interpreter, which catches no access out of bounds. So every input lies
in a larger block of NaN, and every tensor that the operators allocate is a poisoned part of a larger block, whose
surroundings must not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from avsr_kernels import FusionCache, KeyValueCache
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from avsr_kernels.chunk_attention import reference as chunk_reference
from avsr_kernels.chunk_attention.operator import chunk_attention
from avsr_kernels.gated_cross_attention import reference as gated_reference
from avsr_kernels.gated_cross_attention.operator import gated_cross_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * (DEVICE == "cuda")  # the interpreter's bfloat16 is wrong
MOST_CACHED = 512 if DEVICE == "cuda" else 66
"""The interpreter needs a quarter of a second for a tile of keys: minutes for the largest cases."""
GUARD = 64
"""Elements of poison before and after every tensor."""


@dataclass(frozen=True)
class Case:
    """One drawn configuration."""

    batch: int
    heads: int
    ticks: int
    cached: int
    head_dim: int
    chunk: int
    left: int
    dtype: torch.dtype
    density: float
    seed: int


@st.composite
def cases(draw: st.DrawFn, max_ticks: int, long_contexts: tuple[int, ...]) -> Case:
    left = draw(st.one_of(st.integers(0, 40), st.sampled_from(long_contexts)))
    batch, heads = draw(st.sampled_from([(1, 1), (1, 2), (2, 1)]))  # the interpreter takes one after the other
    return Case(
        batch=batch,
        heads=heads,
        ticks=draw(st.integers(1, max_ticks)),
        cached=draw(st.one_of(st.integers(0, min(left, 66)), st.just(min(left, MOST_CACHED)))),
        head_dim=draw(st.sampled_from([32, 48, 64, 96, 128, 10])),
        chunk=draw(st.sampled_from([1, 3, 4, 8, 16, 33, 64])),
        left=left,
        dtype=draw(st.sampled_from(DTYPES)),
        density=draw(st.sampled_from([0.0, 0.3, 0.8, 1.0])),
        seed=draw(st.integers(0, 10_000)),
    )


class Draw:
    """Random tensors of a case, each in its own block of NaN and laid out as chance has it."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._generator = torch.Generator().manual_seed(case.seed)

    def heads(self) -> list[torch.Tensor]:
        """Query, key and value (B, H, T, D): parts of one projection, or each for itself."""
        c = self._case
        if self._chance():
            return list(self._poisoned(c.batch, c.ticks, 3, c.heads, c.head_dim).permute(2, 0, 3, 1, 4).unbind(0))
        return [self._laid_out(c.ticks) for _ in range(3)]

    def cache(self, next_tick: torch.Tensor) -> KeyValueCache:
        """Keys and values (B, H, L, D) and their mask."""
        key, value = self._laid_out(self._case.cached), self._laid_out(self._case.cached)
        return KeyValueCache(key, value, self.mask(self._case.cached), next_tick)

    def next_tick(self) -> torch.Tensor:
        """Any tick, (B,), the same for all or one for each."""
        size = 1 if self._chance() else 2 * self._case.batch
        drawn = torch.randint(-(2**31), 2**31 - 1, (size,), generator=self._generator).to(torch.int32).to(DEVICE)
        return drawn.expand(self._case.batch) if size == 1 else drawn[::2]

    def mask(self, ticks: int) -> torch.Tensor:
        """Bool (B, ticks), True as often as was drawn; a part of a longer one."""
        drawn = torch.rand(self._case.batch, ticks + 3, generator=self._generator) < self._case.density
        return drawn.to(DEVICE)[:, 2 : 2 + ticks]

    def logits(self) -> torch.Tensor:
        """Gate logits (B, T, 2)."""
        return self._poisoned(self._case.batch, self._case.ticks, 2)

    def _laid_out(self, ticks: int) -> torch.Tensor:
        """(B, H, ticks, D) with heads outside, heads inside, every other feature of more, or a part of more ticks."""
        c = self._case
        layout = int(torch.randint(4, (), generator=self._generator))
        if layout == 0:
            return self._poisoned(c.batch, c.heads, ticks, c.head_dim)
        if layout == 1:
            return self._poisoned(c.batch, ticks, c.heads, c.head_dim).transpose(1, 2)
        if layout == 2:
            return self._poisoned(c.batch, c.heads, ticks, 2 * c.head_dim)[..., ::2]
        return self._poisoned(c.batch, c.heads, ticks + 5, c.head_dim).narrow(2, 3, ticks)

    def _chance(self) -> bool:
        return bool(torch.rand((), generator=self._generator) < 0.4)

    def _poisoned(self, *shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=self._generator)
        block = torch.full((values.numel() + 2 * GUARD,), float("nan"), dtype=self._case.dtype)
        block[GUARD : GUARD + values.numel()] = values.flatten().to(self._case.dtype)
        return block.to(DEVICE)[GUARD : GUARD + values.numel()].view(shape)


@contextmanager
def guarded_memory() -> Iterator[None]:
    """Poison what ``torch.empty`` gives, and check afterwards that nothing around it was written."""
    blocks: list[tuple[torch.Tensor, torch.Tensor]] = []
    empty = torch.empty

    def allocate(*shape: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        sizes = torch.Size(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        poison = float("nan") if dtype.is_floating_point else True if dtype == torch.bool else 2**31 - 1
        block = empty((sizes.numel() + 2 * GUARD,), dtype=dtype, device=device).fill_(poison)
        blocks.append((block, block.clone()))
        return block[GUARD : GUARD + sizes.numel()].view(sizes)

    with mock.patch.object(torch, "empty", allocate):
        yield
    for block, before in blocks:
        for edge in slice(0, GUARD), slice(block.numel() - GUARD, None):
            torch.testing.assert_close(block[edge], before[edge], rtol=0, atol=0, equal_nan=True)


def run(
    operation: Callable[..., list[torch.Tensor]], inputs: list[torch.Tensor], dtype: torch.dtype, seed: int
) -> list[torch.Tensor]:
    """Return the outputs of ``operation`` and its inputs' gradients, for upstream gradients of some of the outputs."""
    leaves = [x.detach().to(dtype) if x.dtype != dtype else x.detach() for x in inputs]
    for leaf in leaves:
        leaf.requires_grad_()
    outputs = operation(*leaves)
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(x.shape, generator=generator).to(inputs[0].dtype).to(DEVICE, dtype) for x in outputs]
    used = [index for index in range(len(outputs)) if torch.rand((), generator=generator) < 0.6] or [0]
    grads = torch.autograd.grad(
        [outputs[index] for index in used], leaves, [upstream[index] for index in used], materialize_grads=True
    )
    return [*(x.detach() for x in outputs), *grads]


def assert_all_close(
    actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float, num_terms: Mapping[int, int] = {}
) -> None:
    """``num_terms`` says of which tensors every element sums how many values that were rounded to the drawn type."""
    for index, (ours, exact) in enumerate(zip(actual, expected, strict=True)):
        assert ours.isfinite().all(), f"tensor {index} has places that were not written"
        # What is summed is of order 1. Where it cancels (few keys to see: hardly a gradient for the query), what is
        # left is the rounding of the sum, which is relative to its terms.
        scale = max(float(exact.norm()), 0.5 * (exact.numel() * num_terms.get(index, 1)) ** 0.5)
        error = float((ours.double() - exact).norm()) / max(scale, 1e-30)
        assert error <= tolerance, f"tensor {index}: relative error {error:.1e}"


STREAMS_AND_HEADS = Case(
    2, 2, ticks=5, cached=4, head_dim=32, chunk=3, left=5, dtype=torch.float32, density=0.8, seed=29
)
"""More than one of both, as on a server, where a wrong stride writes into another stream."""


@pytest.mark.timeout(300)  # the interpreter is slow, and draws differ
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases(max_ticks=70, long_contexts=(64, 130, 512)))
@example(STREAMS_AND_HEADS)
def test_chunk_attention_equals_the_reference(case: Case) -> None:
    draw = Draw(case)
    next_tick = draw.next_tick()
    heads, cache, mask = draw.heads(), draw.cache(next_tick), draw.mask(case.ticks)
    states: list[KeyValueCache] = []

    def operation(implementation: Callable[..., Any]) -> Callable[..., list[torch.Tensor]]:
        def call(query, key, value, old_key, old_value):  # type: ignore[no-untyped-def]
            old = KeyValueCache(old_key, old_value, cache.mask, next_tick)
            out, new = implementation(query, key, value, mask, old, chunk_ticks=case.chunk, left_ticks=case.left)
            states.append(new)
            return [out, new.key, new.value]

        return call

    inputs = [*heads, cache.key, cache.value]
    with guarded_memory():
        actual = run(operation(chunk_attention), inputs, case.dtype, case.seed)
    expected = run(operation(chunk_reference.chunk_attention), inputs, torch.float64, case.seed)
    assert_all_close(actual, expected, TOLERANCE[case.dtype])
    assert torch.equal(states[0].mask, states[1].mask)
    assert torch.equal(states[0].next_tick, states[1].next_tick)


@pytest.mark.timeout(300)  # the interpreter is slow, and draws differ
@settings(deadline=None, max_examples=2, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases(max_ticks=20, long_contexts=(64,)))
@example(Case(1, 2, ticks=1, cached=4, head_dim=128, chunk=3, left=5, dtype=torch.float16, density=0.8, seed=29))
@example(STREAMS_AND_HEADS)
def test_gated_cross_attention_equals_the_reference(case: Case) -> None:
    draw = Draw(case)
    next_tick = draw.next_tick()
    audio, video, logits = draw.heads(), draw.heads(), draw.logits()
    old = FusionCache(draw.cache(next_tick), draw.cache(next_tick))
    heard, visible = draw.mask(case.ticks), draw.mask(case.ticks)
    states: list[FusionCache] = []

    def operation(implementation: Callable[..., Any]) -> Callable[..., list[torch.Tensor]]:
        def call(*x: torch.Tensor) -> list[torch.Tensor]:
            cache = FusionCache(
                KeyValueCache(x[7], x[8], old.audio.mask, next_tick),
                KeyValueCache(x[9], x[10], old.video.mask, next_tick),
            )
            mixed, weights, new = implementation(
                x[:3], x[3:6], x[6], heard, visible, cache, chunk_ticks=case.chunk, left_ticks=case.left
            )
            states.append(new)
            return [mixed, weights, new.audio.key, new.audio.value, new.video.key, new.video.value]

        return call

    inputs = [*audio, *video, logits, old.audio.key, old.audio.value, old.video.key, old.video.value]
    with guarded_memory():
        actual = run(operation(gated_cross_attention), inputs, case.dtype, case.seed)
    expected = run(operation(gated_reference.gated_cross_attention), inputs, torch.float64, case.seed)
    of_logits = 6 + 6  # behind all outputs, and the gradients of six tensors
    assert_all_close(actual, expected, TOLERANCE[case.dtype], {of_logits: case.heads * case.head_dim})
    for ours, exact in zip((states[0].audio, states[0].video), (states[1].audio, states[1].video), strict=True):
        assert torch.equal(ours.mask, exact.mask)
        assert torch.equal(ours.next_tick, exact.next_tick)


def test_blind_queries_give_zeros_and_no_gradient() -> None:
    query = torch.randn(1, 2, 8, 32, device=DEVICE, requires_grad=True)
    nothing = torch.zeros(1, 8, dtype=torch.bool, device=DEVICE)
    cache = KeyValueCache.empty(1, 2, 5, 32, like=query.detach())
    out, _ = chunk_attention(query, query, query, nothing, cache, chunk_ticks=4, left_ticks=5)
    assert torch.all(out == 0)
    (gradient,) = torch.autograd.grad(out.sum(), query)
    assert torch.all(gradient == 0)


def test_the_cache_given_is_not_written() -> None:
    heads = torch.randn(3, 1, 2, 8, 32, device=DEVICE)
    shown = torch.ones(1, 8, dtype=torch.bool, device=DEVICE)
    _, cache = chunk_attention(
        *heads, shown, KeyValueCache.empty(1, 2, 16, 32, like=heads), chunk_ticks=8, left_ticks=16
    )
    before = [tensor.clone() for tensor in (cache.key, cache.value, cache.mask, cache.next_tick)]
    chunk_attention(*heads, shown, cache, chunk_ticks=8, left_ticks=16)
    for now, then in zip((cache.key, cache.value, cache.mask, cache.next_tick), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("chunk", [4, 16])
def test_steps_equal_the_whole(chunk: int) -> None:
    heads = torch.randn(3, 1, 1, 48, 48, device=DEVICE)
    shown = torch.rand(1, 48, device=DEVICE) > 0.2
    empty = KeyValueCache.empty(1, 1, 0, 48, like=heads)
    whole, last = chunk_attention(*heads, shown, empty, chunk_ticks=chunk, left_ticks=24)
    cache, parts = empty, []
    for start in range(0, 48, chunk):
        now = slice(start, start + chunk)
        part, cache = chunk_attention(*heads[:, :, :, now], shown[:, now], cache, chunk_ticks=chunk, left_ticks=24)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 2), whole, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(cache.key, last.key, atol=0, rtol=0)
    assert torch.equal(cache.next_tick, last.next_tick)


@pytest.mark.parametrize(("chunk", "left"), [(2**31 - 1, 6), (4, 2**31 - 1), (2**40, 2**40)])
def test_any_large_number_stands_for_all(chunk: int, left: int) -> None:
    heads = torch.randn(3, 1, 1, 12, 32, device=DEVICE).unbind(0)
    shown = torch.ones(1, 12, dtype=torch.bool, device=DEVICE)
    empty = KeyValueCache.empty(1, 1, 0, 32, like=heads[0])

    def attend(implementation: Callable[..., Any], chunk: int, left: int) -> list[torch.Tensor]:
        return run(
            lambda *x: [implementation(*x, shown, empty, chunk_ticks=chunk, left_ticks=left)[0]],
            list(heads), torch.float32, 1,
        )  # fmt: skip

    expected = attend(chunk_reference.chunk_attention, min(chunk, 12), min(left, 24))
    assert_all_close(attend(chunk_attention, chunk, left), [x.double() for x in expected], 1e-5)


def test_a_cache_of_another_precision_is_taken_over() -> None:
    heads = torch.randn(3, 1, 1, 4, 32, device=DEVICE).half()
    cache = KeyValueCache.empty(1, 1, 8, 32, like=torch.zeros(0, device=DEVICE))
    shown = torch.ones(1, 4, dtype=torch.bool, device=DEVICE)
    out, new = chunk_attention(*heads, shown, cache, chunk_ticks=4, left_ticks=8)
    assert out.dtype == new.key.dtype == torch.float16
    logits = torch.zeros(1, 4, 2, device=DEVICE, requires_grad=True)
    audio = tuple(x.clone().requires_grad_() for x in heads)
    mixed, _, _ = gated_cross_attention(
        audio, tuple(heads), logits, shown, shown, FusionCache(cache, cache), chunk_ticks=4, left_ticks=8
    )  # type: ignore[arg-type]
    grads = torch.autograd.grad(mixed.float().sum(), [*audio[1:], logits])
    assert [grad.dtype for grad in grads] == [torch.float16, torch.float16, torch.float32]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mask": torch.ones(2, 5, dtype=torch.bool, device=DEVICE)}, r"\(2, 4\) was expected"),
        ({"key": torch.zeros(2, 1, 4, 16, device=DEVICE)}, r"\(2, 1, 4, 32\) was expected"),
        ({"cache": KeyValueCache.empty(1, 1, 3, 32, like=torch.zeros(0, device=DEVICE))}, r"\(2, 1, 3, 32\) was"),
        ({"chunk_ticks": 0}, "chunks of 0"),
        ({"left_ticks": -1}, "-1 before"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], complaint: str) -> None:
    heads = torch.zeros(2, 1, 4, 32, device=DEVICE)
    arguments = {
        "query": heads, "key": heads, "value": heads, "mask": torch.ones(2, 4, dtype=torch.bool, device=DEVICE),
        "cache": KeyValueCache.empty(2, 1, 3, 32, like=heads), "chunk_ticks": 4, "left_ticks": 6,
    }  # fmt: skip
    with pytest.raises(ValueError, match=complaint):
        chunk_attention(**(arguments | change))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_reference_gives_blind_queries_zeros_too(dtype: torch.dtype) -> None:
    heads = torch.randn(1, 2, 8, 32, device=DEVICE, dtype=dtype, requires_grad=True)
    shown = torch.zeros(1, 8, dtype=torch.bool, device=DEVICE)
    shown[:, :4] = True  # the second chunk sees nothing
    cache = KeyValueCache.empty(1, 2, 0, 32, like=heads.detach())
    out, _ = chunk_reference.chunk_attention(heads, heads, heads, shown, cache, chunk_ticks=4, left_ticks=0)
    assert torch.all(out[:, :, 4:] == 0)
    (gradient,) = torch.autograd.grad(out.float().sum(), heads)
    assert gradient.isfinite().all()
    assert torch.all(gradient[:, :, 4:] == 0)
