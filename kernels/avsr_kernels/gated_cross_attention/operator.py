"""The fused fusion step as an operator of PyTorch, so that autograd, ``torch.compile`` and fake tensors know it."""

from __future__ import annotations

import math
from typing import Any

import torch

from avsr_kernels.cache import FusionCache, KeyValueCache
from avsr_kernels.chunk_attention.operator import allocate_cache, backward
from avsr_kernels.gated_cross_attention.triton import gated_cross_attention_kernel
from avsr_kernels.launch import alike, check_window, empty_heads_inside, forward_tiles, window_sizes
from avsr_kernels.rotary import turn_rates


def gated_cross_attention(
    audio: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    video: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    gate_logits: torch.Tensor,
    heard: torch.Tensor,
    visible: torch.Tensor,
    cache: FusionCache,
    *,
    chunk_ticks: int,
    left_ticks: int,
) -> tuple[torch.Tensor, torch.Tensor, FusionCache]:
    """See ``avsr_kernels.gated_cross_attention``."""
    query, *others = (*audio, *video)
    check_window(query, others, (heard, visible), (cache.audio, cache.video), chunk_ticks, left_ticks)
    if gate_logits.shape != (*heard.shape, 2):
        raise ValueError(f"gate logits are {tuple(gate_logits.shape)}, not {(*heard.shape, 2)}")
    window = window_sizes(query.shape[2], cache.audio.mask.shape[1], chunk_ticks, left_ticks)
    inputs = (query, *others, gate_logits)
    keeps_parts = torch.is_grad_enabled() and any(
        x.requires_grad for x in (*inputs, cache.audio.key, cache.audio.value, cache.video.key, cache.video.value)
    )
    operator = torch.ops.avsr_kernels.gated_cross_attention
    mixed, weights, a_key, a_value, a_mask, v_key, v_value, v_mask, next_tick = operator(
        *inputs, heard, visible,
        cache.audio.key.to(query.dtype), cache.audio.value.to(query.dtype), cache.audio.mask,
        cache.video.key.to(query.dtype), cache.video.value.to(query.dtype), cache.video.mask,
        cache.audio.next_tick, *window, keeps_parts,
    )[:9]  # fmt: skip
    audio_cache = KeyValueCache(a_key, a_value, a_mask, next_tick)
    return mixed, weights, FusionCache(audio_cache, KeyValueCache(v_key, v_value, v_mask, next_tick))


@torch.library.custom_op("avsr_kernels::gated_cross_attention", mutates_args=())
def _forward(
    audio_query: torch.Tensor,
    audio_key: torch.Tensor,
    audio_value: torch.Tensor,
    video_query: torch.Tensor,
    video_key: torch.Tensor,
    video_value: torch.Tensor,
    gate_logits: torch.Tensor,
    heard: torch.Tensor,
    visible: torch.Tensor,
    audio_cache_key: torch.Tensor,
    audio_cache_value: torch.Tensor,
    audio_cache_mask: torch.Tensor,
    video_cache_key: torch.Tensor,
    video_cache_value: torch.Tensor,
    video_cache_mask: torch.Tensor,
    next_tick: torch.Tensor,
    chunk_ticks: int,
    left_ticks: int,
    keeps_parts: bool,
) -> list[torch.Tensor]:
    """Return the mix, the weights, both new caches, the next tick; then what the gradients need, if it is kept.

    That is what each sense's attention found, and the log sums of both; empty tensors unless ``keeps_parts``.
    """
    batch, num_heads, num_ticks, head_dim = audio_query.shape
    outputs = _allocate(audio_query, gate_logits, audio_cache_mask, left_ticks, keeps_parts)
    mixed, weights, *new_caches, new_tick, sound, lips, sound_log_sums, lips_log_sums = outputs
    senses = alike(audio_query, audio_key, audio_value, video_query, video_key, video_value)
    caches = (
        audio_cache_key,
        audio_cache_value,
        audio_cache_mask,
        video_cache_key,
        video_cache_value,
        video_cache_mask,
    )
    tiles = forward_tiles(num_ticks, head_dim, audio_query.dtype)
    with torch.cuda.device_of(audio_query):  # type: ignore[no-untyped-call]
        gated_cross_attention_kernel[(batch * num_heads, -(-num_ticks // tiles["BLOCK_M"]))](
            *senses, gate_logits.contiguous(), heard.contiguous(), visible.contiguous(),
            *(tensor.contiguous() for tensor in caches), next_tick.contiguous(),
            turn_rates(head_dim // 2, audio_query.device),
            mixed, weights, sound, lips, sound_log_sums, lips_log_sums, *new_caches, new_tick,
            *senses[0].stride()[:3], num_heads, num_ticks, audio_cache_mask.shape[1], new_caches[2].shape[1],
            chunk_ticks, left_ticks, 1.0 / math.sqrt(head_dim), keeps_parts,
            **tiles,
        )  # fmt: skip
    return outputs


@_forward.register_fake
def _allocate_fake(audio_query: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
    gate_logits, audio_cache_mask, left_ticks, keeps_parts = rest[5], rest[10], rest[-2], rest[-1]
    return _allocate(audio_query, gate_logits, audio_cache_mask, left_ticks, keeps_parts)


def _allocate(
    query: torch.Tensor, gate_logits: torch.Tensor, cache_mask: torch.Tensor, left_ticks: int, keeps_parts: bool
) -> list[torch.Tensor]:
    audio_cache, video_cache = (allocate_cache(query, cache_mask.shape[1], left_ticks) for _ in range(2))
    parts = query if keeps_parts else query[:0]
    return [
        empty_heads_inside(query),
        torch.empty(gate_logits.shape, dtype=gate_logits.dtype, device=query.device),
        *audio_cache[:3],
        *video_cache,
        *(empty_heads_inside(parts) for _ in range(2)),
        *(torch.empty(parts.shape[:3], dtype=torch.float32, device=query.device) for _ in range(2)),
    ]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
    *tensors, ctx.chunk_ticks, ctx.left_ticks, _ = inputs
    ctx.save_for_backward(*tensors, output[1], *output[9:])


def _backward(ctx: Any, grads: list[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    grad_mixed, grad_weights = grads[:2]
    (
        audio_query, audio_key, audio_value, video_query, video_key, video_value, _, heard, visible,
        *caches, next_tick, weights, sound, lips, sound_log_sums, lips_log_sums,
    ) = ctx.saved_tensors  # fmt: skip
    upstream = grad_mixed.float()  # the two sums nearly cancel, so they need full precision
    found = torch.stack([(upstream * part).sum((1, 3)) for part in (sound, lips)], dim=-1) + grad_weights
    grad_logits = (weights * (found - (weights * found).sum(-1, keepdim=True))).to(weights.dtype)

    audio_weight, video_weight = weights[:, None, :, :1], weights[:, None, :, 1:]
    in_video_query, in_audio_key, in_audio_value, *in_audio_cache = backward(
        (audio_weight * grad_mixed).to(sound.dtype), grads[2], grads[3],
        video_query, audio_key, audio_value, heard, *caches[:3], next_tick,
        sound, sound_log_sums, ctx.chunk_ticks, ctx.left_ticks,
    )  # fmt: skip
    in_audio_query, in_video_key, in_video_value, *in_video_cache = backward(
        (video_weight * grad_mixed).to(lips.dtype), grads[5], grads[6],
        audio_query, video_key, video_value, visible, *caches[3:], next_tick,
        lips, lips_log_sums, ctx.chunk_ticks, ctx.left_ticks,
    )  # fmt: skip
    return (
        in_audio_query, in_audio_key, in_audio_value, in_video_query, in_video_key, in_video_value, grad_logits,
        None, None, *in_audio_cache, None, *in_video_cache, None, None, None, None, None,
    )  # fmt: skip


_forward.register_autograd(_backward, setup_context=_save)
