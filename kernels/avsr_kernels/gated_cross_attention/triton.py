"""The fusion step in Triton: both cross-attentions, the gates and the mix in one launch."""

from __future__ import annotations

import triton
import triton.language as tl

from avsr_kernels.chunk_attention.triton import MASKS, RAGGED
from avsr_kernels.tiles import attend_window, later, store_whole


@triton.jit(do_not_specialize=RAGGED, do_not_specialize_on_alignment=MASKS)
def gated_cross_attention_kernel(
    audio_query, audio_key, audio_value, video_query, video_key, video_value, gate_logits, heard, seen,
    audio_cache_key, audio_cache_value, audio_cache_mask,
    video_cache_key, video_cache_value, video_cache_mask, next_tick, rates,
    mixed, weights, sound, lips, sound_log_sums, lips_log_sums,
    audio_new_key, audio_new_value, audio_new_mask, video_new_key, video_new_value, video_new_mask, new_tick,
    stream_stride, head_stride, row_stride, num_heads, num_ticks, num_cached, num_kept, chunk, left, scale,
    KEEPS_PARTS: tl.constexpr,
    D: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_NEW: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M ticks of one head of one stream; ``sound`` and ``lips`` are written if KEEPS_PARTS."""
    plane = tl.program_id(0).to(tl.int64)  # stream and head
    first = tl.program_id(1) * BLOCK_M
    stream, head = plane // num_heads, plane % num_heads
    start = stream * stream_stride + head * head_stride
    old, kept = plane * num_cached * D, plane * num_kept * D
    tick = tl.load(next_tick + stream)
    from_sound, sound_log_sum = attend_window(
        video_query + start, audio_key + start, audio_value + start, heard + stream * num_ticks,
        audio_cache_key + old, audio_cache_value + old, audio_cache_mask + stream * num_cached, tick, rates,
        audio_new_key + kept, audio_new_value + kept, audio_new_mask + stream * num_kept,
        row_stride, first, num_ticks, num_cached, num_kept, chunk, left, scale, head == 0,
        D, HALF, WIDTH, BLOCK_M, BLOCK_N, BLOCK_NEW,
    )  # fmt: skip
    from_lips, lips_log_sum = attend_window(
        audio_query + start, video_key + start, video_value + start, seen + stream * num_ticks,
        video_cache_key + old, video_cache_value + old, video_cache_mask + stream * num_cached, tick, rates,
        video_new_key + kept, video_new_value + kept, video_new_mask + stream * num_kept,
        row_stride, first, num_ticks, num_cached, num_kept, chunk, left, scale, head == 0,
        D, HALF, WIDTH, BLOCK_M, BLOCK_N, BLOCK_NEW,
    )  # fmt: skip

    row = first + tl.arange(0, BLOCK_M)
    inside = row < num_ticks
    tick_row = stream * num_ticks + row
    has_sound = tl.load(heard + tick_row, mask=inside, other=0) != 0
    has_lips = tl.load(seen + tick_row, mask=inside, other=0) != 0
    audio_logit = tl.load(gate_logits + 2 * tick_row, mask=inside, other=0.0).to(tl.float32)
    video_logit = tl.load(gate_logits + 2 * tick_row + 1, mask=inside, other=0.0).to(tl.float32)
    # The softmax of two is a logistic function, which needs no maximum taken off.
    audio_weight = tl.where(has_lips, tl.sigmoid(audio_logit - video_logit), 1.0)
    audio_weight = tl.where(has_sound, audio_weight, 0.0)
    video_weight = tl.where(has_lips, 1.0 - audio_weight, 0.0)

    kind = mixed.dtype.element_ty
    rows, stride = (stream * num_ticks * num_heads + head) * D, num_heads * D
    mix = audio_weight[:, None] * from_sound + video_weight[:, None] * from_lips
    store_whole(mixed + rows, stride, row, inside, mix.to(kind), D, WIDTH)
    if head == 0:
        tl.store(weights + 2 * tick_row, audio_weight.to(weights.dtype.element_ty), mask=inside)
        tl.store(weights + 2 * tick_row + 1, video_weight.to(weights.dtype.element_ty), mask=inside)
        if first == 0:
            tl.store(new_tick + stream, later(tick, num_ticks))
    if KEEPS_PARTS:
        store_whole(sound + rows, stride, row, inside, from_sound.to(kind), D, WIDTH)
        store_whole(lips + rows, stride, row, inside, from_lips.to(kind), D, WIDTH)
        tl.store(sound_log_sums + plane * num_ticks + row, sound_log_sum, mask=inside)
        tl.store(lips_log_sums + plane * num_ticks + row, lips_log_sum, mask=inside)
