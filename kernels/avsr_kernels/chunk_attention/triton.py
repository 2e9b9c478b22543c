"""Chunked rotary attention in Triton: one launch forward, two backward.

Notation of the gradients, for one head: S = Q K^T scaled, P = softmax(S), O = P V; with dO given,
dV = P^T dO, dS = P * (dO V^T - delta), delta = rowsum(dO * O), dQ = dS K, dK = dS^T Q (Dao et al. 2022,
"FlashAttention", appendix B.2), and queries and keys are turned back at the end. P is computed again from the saved
logarithms of the sums.
"""

from __future__ import annotations

import triton
import triton.language as tl

from avsr_kernels.tiles import (
    LOG2_E,
    attend_window,
    chunk_visible,
    later,
    load_halves,
    load_turned,
    load_whole,
    score,
    store_halves,
    store_whole,
    turn,
)

RAGGED = ["num_ticks", "num_cached", "num_kept", "chunk", "left"]
"""Sizes that change within a stream: never specialised, so that a shorter last chunk causes no compilation."""
MASKS = ["mask", "cache_mask", "heard", "seen", "audio_cache_mask", "video_cache_mask"]
"""Masks are cut at any tick, and so have any alignment, which must not cause a compilation either."""


@triton.jit(do_not_specialize=RAGGED, do_not_specialize_on_alignment=MASKS)
def chunk_attention_kernel(
    query, key, value, mask, cache_key, cache_value, cache_mask, next_tick, rates,
    out, log_sums, new_key, new_value, new_mask, new_tick,
    stream_stride, head_stride, row_stride, num_heads, num_ticks, num_cached, num_kept, chunk, left, scale,
    D: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_NEW: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M queries of one head of one stream."""
    plane = tl.program_id(0).to(tl.int64)  # stream and head
    first = tl.program_id(1) * BLOCK_M
    stream, head = plane // num_heads, plane % num_heads
    start = stream * stream_stride + head * head_stride
    tick = tl.load(next_tick + stream)
    mixed, log_sum = attend_window(
        query + start, key + start, value + start, mask + stream * num_ticks,
        cache_key + plane * num_cached * D, cache_value + plane * num_cached * D, cache_mask + stream * num_cached,
        tick, rates,
        new_key + plane * num_kept * D, new_value + plane * num_kept * D, new_mask + stream * num_kept,
        row_stride, first, num_ticks, num_cached, num_kept, chunk, left, scale, head == 0,
        D, HALF, WIDTH, BLOCK_M, BLOCK_N, BLOCK_NEW,
    )  # fmt: skip
    row = first + tl.arange(0, BLOCK_M)
    rows = out + (stream * num_ticks * num_heads + head) * D
    store_whole(rows, num_heads * D, row, row < num_ticks, mixed.to(out.dtype.element_ty), D, WIDTH)
    tl.store(log_sums + plane * num_ticks + row, log_sum, mask=row < num_ticks)
    if first == 0:
        tl.store(new_tick + stream, later(tick, num_ticks), mask=head == 0)


@triton.jit
def _probabilities(query_low, query_high, key_low, key_high, visible, log_sum):
    return tl.where(visible, tl.exp2(score(query_low, query_high, key_low, key_high) - log_sum[:, None]), 0.0)


@triton.jit
def _add_query_gradient(
    grad_low, grad_high, query_low, query_high, grad_out, log_sum, delta, key_low, key_high, value, visible
):
    weights = _probabilities(query_low, query_high, key_low, key_high, visible, log_sum)
    change = weights * (tl.dot(grad_out, tl.trans(value), input_precision="tf32x3") - delta[:, None])
    change = change.to(key_low.dtype)
    grad_low = tl.dot(change, key_low, grad_low, input_precision="tf32x3")
    return grad_low, tl.dot(change, key_high, grad_high, input_precision="tf32x3")


@triton.jit(do_not_specialize=RAGGED, do_not_specialize_on_alignment=MASKS)
def query_gradient_kernel(
    query, key, value, mask, cache_key, cache_value, cache_mask, next_tick, rates, out, log_sums, grad_out,
    grad_query, delta,
    stream_stride, head_stride, row_stride, num_heads, num_ticks, num_cached, chunk, left, scale,
    D: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program: the gradients of BLOCK_M queries of one head of one stream; also stores delta."""
    plane = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK_M
    stream, head = plane // num_heads, plane % num_heads
    start = stream * stream_stride + head * head_stride
    out_start, out_stride = (stream * num_ticks * num_heads + head) * D, num_heads * D
    tick = tl.load(next_tick + stream)
    row = first + tl.arange(0, BLOCK_M)
    inside = row < num_ticks
    query_low, query_high = load_turned(
        query + start, row_stride, row, inside, later(tick, row), rates, scale * LOG2_E, D, HALF
    )
    upstream = load_whole(grad_out + out_start, out_stride, row, inside, D, WIDTH)
    result = load_whole(out + out_start, out_stride, row, inside, D, WIDTH)
    row_delta = tl.sum(upstream.to(tl.float32) * result.to(tl.float32), 1)
    tl.store(delta + plane * num_ticks + row, row_delta, mask=inside)
    log_sum = tl.load(log_sums + plane * num_ticks + row, mask=inside, other=0.0)
    grad_low = tl.zeros([BLOCK_M, HALF], tl.float32)
    grad_high = tl.zeros([BLOCK_M, HALF], tl.float32)
    window_begin = (first // chunk) * chunk - left
    last = tl.minimum(first + BLOCK_M, num_ticks) - 1
    window_end = tl.minimum((last // chunk + 1) * chunk, num_ticks)

    for begin in range(tl.maximum(num_cached + window_begin, 0), num_cached, BLOCK_N):
        key_row = begin + tl.arange(0, BLOCK_N)
        known = key_row < num_cached
        key_low, key_high = load_halves(cache_key + plane * num_cached * D, D, key_row, known, D, HALF)
        tile = load_whole(cache_value + plane * num_cached * D, D, key_row, known, D, WIDTH)
        shown = tl.load(cache_mask + stream * num_cached + key_row, mask=known, other=0) != 0
        visible = chunk_visible(row, key_row - num_cached, chunk, left) & shown[None, :]
        grad_low, grad_high = _add_query_gradient(
            grad_low, grad_high, query_low, query_high, upstream, log_sum, row_delta, key_low, key_high, tile, visible
        )
    for begin in range(tl.maximum(window_begin, 0), window_end, BLOCK_N):
        key_row = begin + tl.arange(0, BLOCK_N)
        known = key_row < window_end
        key_low, key_high = load_turned(
            key + start, row_stride, key_row, known, later(tick, key_row), rates, 1.0, D, HALF
        )
        tile = load_whole(value + start, row_stride, key_row, known, D, WIDTH)
        shown = tl.load(mask + stream * num_ticks + key_row, mask=known, other=0) != 0
        visible = chunk_visible(row, key_row, chunk, left) & shown[None, :]
        grad_low, grad_high = _add_query_gradient(
            grad_low, grad_high, query_low, query_high, upstream, log_sum, row_delta, key_low, key_high, tile, visible
        )
    grad_low, grad_high = turn(grad_low * scale, grad_high * scale, later(tick, row), rates, -1, D, HALF)
    kind = grad_query.dtype.element_ty
    store_halves(grad_query + out_start, out_stride, row, inside, grad_low.to(kind), grad_high.to(kind), D, HALF)


@triton.jit(do_not_specialize=RAGGED, do_not_specialize_on_alignment=MASKS)
def key_gradient_kernel(
    query, key, value, mask, cache_key, cache_value, cache_mask, next_tick, rates, log_sums, delta, grad_out,
    grad_new_key, grad_new_value,
    grad_key, grad_value, grad_cache_key, grad_cache_value,
    stream_stride, head_stride, row_stride, num_heads, num_ticks, num_cached, num_kept, chunk, left, scale,
    CACHE_HAS_GRADIENT: tl.constexpr,
    D: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program: the gradients of BLOCK_N cached, or BLOCK_N new, keys and values of one head of one stream.

    ``grad_new_key`` and ``grad_new_value`` are what comes back through the new cache, if CACHE_HAS_GRADIENT.
    """
    plane = tl.program_id(0).to(tl.int64)
    stream, head = plane // num_heads, plane % num_heads
    start = stream * stream_stride + head * head_stride
    out_start, out_stride = (stream * num_ticks * num_heads + head) * D, num_heads * D
    tick = tl.load(next_tick + stream)
    num_cached_blocks = tl.cdiv(num_cached, BLOCK_N)
    is_new = tl.program_id(1) >= num_cached_blocks
    # Rows count from the first cached key on; the first new one has row num_cached.
    if is_new:
        first = num_cached + (tl.program_id(1) - num_cached_blocks) * BLOCK_N
        end = num_cached + num_ticks
    else:
        first = tl.program_id(1) * BLOCK_N
        end = num_cached
    row = first + tl.arange(0, BLOCK_N)
    inside = row < end
    key_ticks = row - num_cached
    if is_new:
        key_low, key_high = load_turned(
            key + start, row_stride, key_ticks, inside, later(tick, key_ticks), rates, 1.0, D, HALF
        )
        tile = load_whole(value + start, row_stride, key_ticks, inside, D, WIDTH)
        shown = tl.load(mask + stream * num_ticks + key_ticks, mask=inside, other=0) != 0
    else:
        key_low, key_high = load_halves(cache_key + plane * num_cached * D, D, row, inside, D, HALF)
        tile = load_whole(cache_value + plane * num_cached * D, D, row, inside, D, WIDTH)
        shown = tl.load(cache_mask + stream * num_cached + row, mask=inside, other=0) != 0
    grad_low = tl.zeros([BLOCK_N, HALF], tl.float32)
    grad_high = tl.zeros([BLOCK_N, HALF], tl.float32)
    grad_tile = tl.zeros([BLOCK_N, WIDTH], tl.float32)

    # From the chunk of the first key to the last chunk that has the last key in its left context.
    query_begin = (tl.maximum(first - num_cached, 0) // chunk) * chunk
    last = tl.minimum(first + BLOCK_N, end) - 1 - num_cached
    query_end = tl.minimum((tl.maximum(last + left + chunk, 0) // chunk) * chunk, num_ticks)
    for begin in range(query_begin, query_end, BLOCK_M):
        query_row = begin + tl.arange(0, BLOCK_M)
        asked = query_row < query_end
        query_low, query_high = load_turned(
            query + start, row_stride, query_row, asked, later(tick, query_row), rates, scale * LOG2_E, D, HALF
        )
        upstream = load_whole(grad_out + out_start, out_stride, query_row, asked, D, WIDTH)
        log_sum = tl.load(log_sums + plane * num_ticks + query_row, mask=asked, other=0.0)
        row_delta = tl.load(delta + plane * num_ticks + query_row, mask=asked, other=0.0)
        visible = chunk_visible(query_row, key_ticks, chunk, left) & (shown & inside)[None, :] & asked[:, None]
        weights = _probabilities(query_low, query_high, key_low, key_high, visible, log_sum)
        grad_tile = tl.dot(tl.trans(weights.to(upstream.dtype)), upstream, grad_tile, input_precision="tf32x3")
        change = weights * (tl.dot(upstream, tl.trans(tile), input_precision="tf32x3") - row_delta[:, None])
        change = tl.trans(change.to(query_low.dtype))
        grad_low = tl.dot(change, query_low, grad_low, input_precision="tf32x3")
        grad_high = tl.dot(change, query_high, grad_high, input_precision="tf32x3")
    grad_low, grad_high = grad_low / LOG2_E, grad_high / LOG2_E  # the queries carried this factor

    if CACHE_HAS_GRADIENT:
        place = row - (num_cached + num_ticks - num_kept)
        kept = inside & (place >= 0)
        low, high = load_halves(grad_new_key + plane * num_kept * D, D, place, kept, D, HALF)
        grad_low, grad_high = grad_low + low, grad_high + high
        grad_tile += load_whole(grad_new_value + plane * num_kept * D, D, place, kept, D, WIDTH)
    kind = grad_key.dtype.element_ty
    if is_new:
        grad_low, grad_high = turn(grad_low, grad_high, later(tick, key_ticks), rates, -1, D, HALF)
        store_halves(
            grad_key + out_start, out_stride, key_ticks, inside, grad_low.to(kind), grad_high.to(kind), D, HALF
        )
        store_whole(grad_value + out_start, out_stride, key_ticks, inside, grad_tile.to(kind), D, WIDTH)
    else:
        rows = plane * num_cached * D
        store_halves(grad_cache_key + rows, D, row, inside, grad_low.to(kind), grad_high.to(kind), D, HALF)
        store_whole(grad_cache_value + rows, D, row, inside, grad_tile.to(kind), D, WIDTH)
