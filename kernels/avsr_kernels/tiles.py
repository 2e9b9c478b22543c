"""Device code that the operations share: turning tiles of keys, and one block of queries against its window.

The S = L + T keys of a window are L cached ones, already turned, and T new ones, turned here. A head of D features is
held as two halves, the pairs of the rotation, each padded to a power of two; values are held whole.
"""

from __future__ import annotations

import triton
import triton.language as tl

RADIANS = tl.constexpr(6.283185307179586 / 4294967296.0)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def later(tick, distance):
    """Add to a tick, which wraps around."""
    return tl.add(tick, distance, sanitize_overflow=False)


@triton.jit
def cos_sin(turns):
    """Cosine and sine of int32 ``turns``, 2**32 to the whole turn, to single precision.

    The nearest quarter turn is taken off in integers, exactly; Taylor series do for the +-1/8 turn that is left. (The
    libdevice functions carry a reduction for huge arguments with them, and a stack frame for it.)
    """
    quarter = tl.add(turns, 0x20000000, sanitize_overflow=False) >> 30
    x = tl.sub(turns, quarter << 30, sanitize_overflow=False).to(tl.float32) * RADIANS
    square = x * x
    sine = x * (1.0 + square * (-1.0 / 6 + square * (1.0 / 120 + square * (-1.0 / 5040 + square * (1.0 / 362880)))))
    cosine = 1.0 + square * (-0.5 + square * (1.0 / 24 + square * (-1.0 / 720 + square * (1.0 / 40320))))
    swap = (quarter & 1) == 1
    cos = tl.where(swap, sine, cosine)
    sin = tl.where(swap, cosine, sine)
    return tl.where(((quarter + 1) & 2) == 2, -cos, cos), tl.where((quarter & 2) == 2, -sin, sin)


@triton.jit
def load_halves(rows, row_stride, index, inside, D: tl.constexpr, HALF: tl.constexpr):
    """Load rows ``index`` of a (ticks, D) matrix as two (rows, HALF) tiles, zeros where not ``inside``."""
    column = tl.arange(0, HALF)
    valid = inside[:, None] & (column < D // 2)[None, :]
    pointers = rows + index[:, None] * row_stride + column[None, :]
    return tl.load(pointers, mask=valid, other=0.0), tl.load(pointers + D // 2, mask=valid, other=0.0)


@triton.jit
def store_halves(rows, row_stride, index, inside, low, high, D: tl.constexpr, HALF: tl.constexpr):
    """Store what ``load_halves`` loads."""
    column = tl.arange(0, HALF)
    valid = inside[:, None] & (column < D // 2)[None, :]
    pointers = rows + index[:, None] * row_stride + column[None, :]
    tl.store(pointers, low, mask=valid)
    tl.store(pointers + D // 2, high, mask=valid)


@triton.jit
def load_whole(rows, row_stride, index, inside, D: tl.constexpr, WIDTH: tl.constexpr):
    """Load rows ``index`` of a (ticks, D) matrix as one (rows, WIDTH) tile, zeros where not ``inside``."""
    column = tl.arange(0, WIDTH)
    valid = inside[:, None] & (column < D)[None, :]
    return tl.load(rows + index[:, None] * row_stride + column[None, :], mask=valid, other=0.0)


@triton.jit
def store_whole(rows, row_stride, index, inside, tile, D: tl.constexpr, WIDTH: tl.constexpr):
    """Store what ``load_whole`` loads."""
    column = tl.arange(0, WIDTH)
    valid = inside[:, None] & (column < D)[None, :]
    tl.store(rows + index[:, None] * row_stride + column[None, :], tile, mask=valid)


@triton.jit
def turn(low, high, ticks, rates, direction: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr):
    """Turn a tile's pairs by its int32 ``ticks`` (``direction`` 1), or back (-1); float32 comes out."""
    column = tl.arange(0, HALF)
    rate = tl.load(rates + column, mask=column < D // 2, other=0)
    cos, sin = cos_sin(tl.mul(ticks[:, None], rate[None, :], sanitize_overflow=False))
    sin = sin * direction
    low, high = low.to(tl.float32), high.to(tl.float32)
    return low * cos - high * sin, low * sin + high * cos


@triton.jit
def load_turned(rows, row_stride, index, inside, ticks, rates, scale, D: tl.constexpr, HALF: tl.constexpr):
    """``load_halves``, turned and scaled, in the precision that it was stored in."""
    low, high = load_halves(rows, row_stride, index, inside, D, HALF)
    turned_low, turned_high = turn(low, high, ticks, rates, 1, D, HALF)
    return (turned_low * scale).to(low.dtype), (turned_high * scale).to(low.dtype)


@triton.jit
def chunk_visible(query_ticks, key_ticks, chunk, left):
    """``masks.chunk_visible`` for a tile; query ticks are counted from a chunk boundary and not negative."""
    begin = ((query_ticks // chunk) * chunk)[:, None]
    return (key_ticks[None, :] >= begin - left) & (key_ticks[None, :] < begin + chunk)


@triton.jit
def score(query_low, query_high, key_low, key_high):
    """Return query times key transposed, in float32.

    Here and below, float32 operands are split into three TF32 products each: tensor cores, with nearly all 24 bits.
    """
    half = tl.dot(query_low, tl.trans(key_low), input_precision="tf32x3")
    return tl.dot(query_high, tl.trans(key_high), half, input_precision="tf32x3")


@triton.jit
def _accumulate(query_low, query_high, key_low, key_high, value, visible, top, total, mixed):
    """One step of the running softmax (Milakov & Gimelshein 2018), in powers of two."""
    scores = tl.where(visible, score(query_low, query_high, key_low, key_high), float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1))
    anchor = tl.where(new_top == float("-inf"), 0.0, new_top)  # nothing seen yet: -inf minus -inf would be NaN
    weights = tl.exp2(scores - anchor[:, None])
    fade = tl.exp2(top - anchor)
    total = total * fade + tl.sum(weights, 1)
    mixed = tl.dot(weights.to(value.dtype), value, mixed * fade[:, None], input_precision="tf32x3")
    return new_top, total, mixed


@triton.jit
def attend_window(
    query, key, value, mask, cache_key, cache_value, cache_mask, next_tick, rates,
    new_key, new_value, new_mask,
    row_stride, first, num_ticks, num_cached, num_kept, chunk, left, scale, writes_mask,
    D: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_NEW: tl.constexpr,
):  # fmt: skip
    """Attend from the BLOCK_M queries from ``first`` on, and write this block's share of the new cache.

    All pointers are one stream's and one head's. Cached rows are written by the block of the first queries, which
    reads them all; a new row by the block of its own query. So each row is written once, from registers, and the
    cache that is read is never the one that is written.

    Returns:
        float32 (BLOCK_M, WIDTH), and the base-2 logarithm of the sum of exponentials (BLOCK_M,), 0 for blind queries.
    """
    ticks = first + tl.arange(0, BLOCK_M)
    query_low, query_high = load_turned(
        query, row_stride, ticks, ticks < num_ticks, later(next_tick, ticks), rates, scale * LOG2_E, D, HALF
    )
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, WIDTH], tl.float32)
    dropped = num_cached + num_ticks - num_kept
    window_begin = (first // chunk) * chunk - left
    last = tl.minimum(first + BLOCK_M, num_ticks) - 1
    window_end = tl.minimum((last // chunk + 1) * chunk, num_ticks)

    for start in range(tl.maximum(num_cached + window_begin, 0), num_cached, BLOCK_N):
        row = start + tl.arange(0, BLOCK_N)
        inside = row < num_cached
        key_low, key_high = load_halves(cache_key, D, row, inside, D, HALF)
        tile = load_whole(cache_value, D, row, inside, D, WIDTH)
        shown = tl.load(cache_mask + row, mask=inside, other=0) != 0
        visible = chunk_visible(ticks, row - num_cached, chunk, left) & shown[None, :]
        top, total, mixed = _accumulate(query_low, query_high, key_low, key_high, tile, visible, top, total, mixed)
        kept = inside & (row >= dropped) & (first == 0)
        store_halves(new_key, D, row - dropped, kept, key_low, key_high, D, HALF)
        store_whole(new_value, D, row - dropped, kept, tile, D, WIDTH)
        tl.store(new_mask + row - dropped, shown, mask=kept & writes_mask)

    for start in range(tl.maximum(window_begin, 0), window_end, BLOCK_NEW):
        row = start + tl.arange(0, BLOCK_NEW)
        inside = row < window_end
        key_low, key_high = load_turned(key, row_stride, row, inside, later(next_tick, row), rates, 1.0, D, HALF)
        tile = load_whole(value, row_stride, row, inside, D, WIDTH)
        shown = tl.load(mask + row, mask=inside, other=0) != 0
        visible = chunk_visible(ticks, row, chunk, left) & shown[None, :]
        top, total, mixed = _accumulate(query_low, query_high, key_low, key_high, tile, visible, top, total, mixed)
        place = num_cached + row - dropped
        kept = inside & (place >= 0) & (row >= first) & (row < first + BLOCK_M)
        store_halves(new_key, D, place, kept, key_low, key_high, D, HALF)
        store_whole(new_value, D, place, kept, tile, D, WIDTH)
        tl.store(new_mask + place, shown, mask=kept & writes_mask)

    blind = total == 0.0
    total = tl.where(blind, 1.0, total)
    return mixed / total[:, None], tl.where(blind, 0.0, top + tl.log2(total))
