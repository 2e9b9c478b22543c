"""The operators under PyTorch's own machinery: schema, fake tensors, autograd registration, ``torch.compile``."""

from __future__ import annotations

import pytest
import torch
from avsr_kernels import FusionCache, KeyValueCache, chunk_attention, gated_cross_attention

pytest.importorskip("triton")

import avsr_kernels.chunk_attention.operator
import avsr_kernels.gated_cross_attention.operator  # noqa: F401

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def chunk_inputs(*, gradients: bool = True) -> tuple[torch.Tensor, ...]:
    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=DEVICE, requires_grad=gradients)

    heads = [tensor(1, 1, 3, 32) for _ in range(3)]
    shown, cached = (torch.ones(1, ticks, dtype=torch.bool, device=DEVICE) for ticks in (3, 2))
    next_tick = torch.tensor([-9], dtype=torch.int32, device=DEVICE)
    return *heads, shown, tensor(1, 1, 2, 32), tensor(1, 1, 2, 32), cached, next_tick


def test_chunk_attention_is_a_good_operator() -> None:
    operator = torch.ops.avsr_kernels.chunk_attention.default
    torch.library.opcheck(operator, (*chunk_inputs(), 4, 6), test_utils=CHECKS)


def test_gated_cross_attention_is_a_good_operator() -> None:
    query, key, value, shown, cache_key, cache_value, cache_mask, next_tick = chunk_inputs()
    logits = torch.randn(1, 3, 2, device=DEVICE, requires_grad=True)
    cache = (cache_key, cache_value, cache_mask)
    heads = (query, key, value)
    arguments = (*heads, *heads, logits, shown, shown, *cache, *cache, next_tick, 4, 6, True)
    operator = torch.ops.avsr_kernels.gated_cross_attention.default
    torch.library.opcheck(operator, arguments, test_utils=CHECKS)


def test_compiled_code_takes_the_kernels_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSR_KERNELS", "triton")
    query, key, value, shown, cache_key, cache_value, cache_mask, next_tick = chunk_inputs(gradients=False)
    logits = torch.randn(1, 3, 2, device=DEVICE)
    cache = KeyValueCache(cache_key, cache_value, cache_mask, next_tick)

    def fuse(query: torch.Tensor) -> torch.Tensor:
        out, _ = chunk_attention(query, key, value, shown, cache, chunk_ticks=4, left_ticks=6)
        heads = (out, key, value)
        mixed, weights, _ = gated_cross_attention(
            heads, heads, logits, shown, shown, FusionCache(cache, cache), chunk_ticks=4, left_ticks=6
        )
        return mixed * weights[:, None, :, :1]

    compiled = torch.compile(fuse, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(query), fuse(query))
