"""The Triton kernels as operators of PyTorch, so that autograd, ``torch.compile`` and fake tensors know them."""

from __future__ import annotations

import math
from typing import Any

import torch

from avsr_kernels.cache import KeyValueCache
from avsr_kernels.chunk_attention.triton import chunk_attention_kernel, key_gradient_kernel, query_gradient_kernel
from avsr_kernels.launch import (
    alike,
    backward_tiles,
    check_window,
    empty_heads_inside,
    forward_tiles,
    heads_inside,
    window_sizes,
)
from avsr_kernels.rotary import turn_rates

Tensors = tuple[torch.Tensor, ...]


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
    """See ``avsr_kernels.chunk_attention``."""
    check_window(query, (key, value), (mask,), (cache,), chunk_ticks, left_ticks)
    window = window_sizes(query.shape[2], cache.mask.shape[1], chunk_ticks, left_ticks)
    out, new_key, new_value, new_mask, new_tick, _ = torch.ops.avsr_kernels.chunk_attention(
        query, key, value, mask,
        cache.key.to(query.dtype), cache.value.to(query.dtype), cache.mask, cache.next_tick, *window,
    )  # fmt: skip
    return out, KeyValueCache(new_key, new_value, new_mask, new_tick)


@torch.library.custom_op("avsr_kernels::chunk_attention", mutates_args=())
def _forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    cache_key: torch.Tensor,
    cache_value: torch.Tensor,
    cache_mask: torch.Tensor,
    next_tick: torch.Tensor,
    chunk_ticks: int,
    left_ticks: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the output, the new cache's four tensors, and the rows' log sums of exponentials for the gradients."""
    batch, num_heads, num_ticks, head_dim = query.shape
    num_cached = cache_mask.shape[1]
    outputs = _allocate(query, cache_mask, left_ticks)
    out, new_key, new_value, new_mask, new_tick, log_sums = outputs
    query, key, value = alike(query, key, value)
    tiles = forward_tiles(num_ticks, head_dim, query.dtype)
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        chunk_attention_kernel[(batch * num_heads, -(-num_ticks // tiles["BLOCK_M"]))](
            query, key, value, mask.contiguous(),
            cache_key.contiguous(), cache_value.contiguous(), cache_mask.contiguous(), next_tick.contiguous(),
            turn_rates(head_dim // 2, query.device),
            out, log_sums, new_key, new_value, new_mask, new_tick,
            *query.stride()[:3], num_heads, num_ticks, num_cached, new_mask.shape[1], chunk_ticks, left_ticks,
            1.0 / math.sqrt(head_dim),
            **tiles,
        )  # fmt: skip
    return outputs


@_forward.register_fake
def _allocate_fake(query, key, value, mask, cache_key, cache_value, cache_mask, next_tick, chunk_ticks, left_ticks):  # type: ignore[no-untyped-def]
    return _allocate(query, cache_mask, left_ticks)


def _allocate(
    query: torch.Tensor, cache_mask: torch.Tensor, left_ticks: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    log_sums = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    return empty_heads_inside(query), *allocate_cache(query, cache_mask.shape[1], left_ticks), log_sums


def allocate_cache(
    query: torch.Tensor, num_cached: int, left_ticks: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the unwritten key, value, mask and next tick of the cache that follows ``num_cached`` ticks."""
    batch, num_heads, num_ticks, head_dim = query.shape
    num_kept = min(left_ticks, num_cached + num_ticks)

    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=query.device)

    return (
        empty(batch, num_heads, num_kept, head_dim, dtype=query.dtype),
        empty(batch, num_heads, num_kept, head_dim, dtype=query.dtype),
        empty(batch, num_kept, dtype=torch.bool),
        empty(batch, dtype=torch.int32),
    )


@torch.library.custom_op("avsr_kernels::chunk_attention_backward", mutates_args=())
def backward(
    grad_out: torch.Tensor,
    grad_new_key: torch.Tensor | None,
    grad_new_value: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    cache_key: torch.Tensor,
    cache_value: torch.Tensor,
    cache_mask: torch.Tensor,
    next_tick: torch.Tensor,
    out: torch.Tensor,
    log_sums: torch.Tensor,
    chunk_ticks: int,
    left_ticks: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of query, key, value, cached keys and cached values, from those of what ``_forward`` gave.

    ``grad_new_key`` and ``grad_new_value`` are None together, where nothing comes back through the new cache.
    """
    batch, num_heads, num_ticks, head_dim = query.shape
    num_cached = cache_mask.shape[1]
    num_kept = min(left_ticks, num_cached + num_ticks)
    query, key, value = alike(query, key, value)
    grad_out = heads_inside(grad_out)
    inputs = (
        query, key, value, mask.contiguous(),
        cache_key.contiguous(), cache_value.contiguous(), cache_mask.contiguous(), next_tick.contiguous(),
        turn_rates(head_dim // 2, query.device),
    )  # fmt: skip
    grads = _allocate_gradients(query, cache_mask.shape[1])
    grad_query, grad_key, grad_value, grad_cache_key, grad_cache_value = grads
    delta = torch.empty(log_sums.shape, dtype=log_sums.dtype, device=query.device)
    sizes = (*query.stride()[:3], num_heads, num_ticks, num_cached)
    scale = 1.0 / math.sqrt(head_dim)
    tiles = backward_tiles(head_dim, query.dtype)
    num_key_blocks = -(-num_cached // tiles["BLOCK_N"]) + -(-num_ticks // tiles["BLOCK_N"])
    has_cache_gradient = grad_new_key is not None and grad_new_value is not None
    grad_new = [delta if grad is None else grad.contiguous() for grad in (grad_new_key, grad_new_value)]
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        query_gradient_kernel[(batch * num_heads, -(-num_ticks // tiles["BLOCK_M"]))](
            *inputs, heads_inside(out), log_sums, grad_out, grad_query, delta,
            *sizes, chunk_ticks, left_ticks, scale, **tiles,
        )  # fmt: skip
        key_gradient_kernel[(batch * num_heads, num_key_blocks)](
            *inputs, log_sums, delta, grad_out,
            *grad_new, grad_key, grad_value, grad_cache_key, grad_cache_value,
            *sizes, num_kept, chunk_ticks, left_ticks, scale, has_cache_gradient, **tiles,
        )  # fmt: skip
    return grads


@backward.register_fake
def _backward_fake(grad_out, grad_new_key, grad_new_value, query, key, value, mask, cache_key, *_):  # type: ignore[no-untyped-def]
    return _allocate_gradients(query, cache_key.shape[2])


def _allocate_gradients(
    query: torch.Tensor, num_cached: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, num_heads, _, head_dim = query.shape
    cached = batch, num_heads, num_cached, head_dim
    return (
        empty_heads_inside(query),
        empty_heads_inside(query),
        empty_heads_inside(query),
        torch.empty(cached, dtype=query.dtype, device=query.device),
        torch.empty(cached, dtype=query.dtype, device=query.device),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    *tensors, ctx.chunk_ticks, ctx.left_ticks = inputs
    out, _, _, new_mask, new_tick, log_sums = output
    ctx.mark_non_differentiable(new_mask, new_tick, log_sums)
    ctx.save_for_backward(*tensors, out, log_sums)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_out: torch.Tensor | None, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    *tensors, out, log_sums = ctx.saved_tensors
    grad_new_key, grad_new_value = grads[:2]
    if grad_new_key is not None or grad_new_value is not None:
        shape = (*tensors[0].shape[:2], min(ctx.left_ticks, tensors[6].shape[1] + tensors[0].shape[2]), out.shape[3])
        grad_new_key = out.new_zeros(shape) if grad_new_key is None else grad_new_key
        grad_new_value = out.new_zeros(shape) if grad_new_value is None else grad_new_value
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    query, key, value, cache_key, cache_value = backward(
        grad_out, grad_new_key, grad_new_value, *tensors, out, log_sums, ctx.chunk_ticks, ctx.left_ticks
    )
    return query, key, value, None, cache_key, cache_value, None, None, None, None


_forward.register_autograd(_backward, setup_context=_save)
