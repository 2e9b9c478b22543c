"""Inputs of attention, exact results in float64, and the rivals: eager PyTorch, SDPA with a mask, FlexAttention.

All candidates compute the same from the same inputs: rotate the new queries and keys (rotary positions), attend over
the cache and the new ticks where the masks allow it, return zeros for queries without a visible key, and return the new
cache, with rotated keys.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from avsr_kernels import FusionCache, KeyValueCache, chunk_attention, gated_cross_attention
from avsr_kernels.rotary import cos_sin, rotate
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

T = TypeVar("T")
Tensors = tuple[torch.Tensor, ...]

LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Largest relative error of our kernels, norm over norm."""
RIVAL_SLACK = 3.0
"""Tolerance of rivals relative to ours, since they round between their kernels. A larger error is a wrong result."""


@dataclass(frozen=True)
class Shape:
    """B streams, H heads of D features, T new ticks in chunks of C, a cache of L ticks and a left context of ``left``.

    Streaming has T = C and L = left; training has L = 0.
    """

    batch: int
    heads: int
    head_dim: int
    ticks: int
    cached: int
    chunk: int
    left: int
    dtype: torch.dtype = torch.bfloat16

    @property
    def moved_bytes(self) -> int:
        """Minimum memory traffic of a forward pass: read inputs and the old cache, write output and the new cache."""
        kept = min(self.left, self.cached + self.ticks)
        rows = 3 * self.ticks + 2 * self.cached + self.ticks + 2 * kept
        masks = self.batch * (self.ticks + self.cached + kept)
        return self.batch * self.heads * rows * self.head_dim * self.dtype.itemsize + masks

    def describe(self) -> dict[str, int | str]:
        """Return the shape as columns of a row."""
        sizes = dataclasses.asdict(self)
        return {**sizes, "dtype": str(self.dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class Job:
    """One set of inputs. ``query``, ``key``, ``value`` (B, H, T, D) are views of one projection, as in the model."""

    shape: Shape
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor
    cache: KeyValueCache

    @cached_property
    def turns(self) -> Tensors:
        """Cosines and sines of the new ticks, which a model computes once for all its layers."""
        return self.compute_turns()

    def compute_turns(self) -> Tensors:
        """Compute ``turns`` without caching them."""
        return cos_sin(self.cache.next_tick, self.shape.ticks, self.shape.head_dim // 2, self.shape.dtype)

    @cached_property
    def visible(self) -> torch.Tensor:
        """Bool (B, 1, T, L + T): which keys each query may see; a model computes it once for all its layers too."""
        return _visible(self.shape, torch.cat([self.cache.mask, self.mask], dim=1))

    @cached_property
    def blind(self) -> torch.Tensor:
        """Bool (B, 1, T, 1): the queries without a visible key."""
        return ~self.visible.any(-1, keepdim=True)

    @cached_property
    def bias(self) -> torch.Tensor:
        """``visible`` as SDPA's additive bias; blind queries see everything, and their output is zeroed afterwards."""
        *size, keys = self.visible.shape
        rows = -(-keys // 8) * 8  # SDPA copies a bias whose row stride is not a multiple of 16 bytes
        bias = torch.zeros(*size, rows, dtype=self.shape.dtype, device=self.mask.device)[..., :keys]
        return bias.masked_fill_(~(self.visible | self.blind), float("-inf"))

    @cached_property
    def block_mask(self) -> BlockMask:
        """``visible`` for FlexAttention; only for shapes without a cache."""
        chunk, left, mask = self.shape.chunk, self.shape.left, self.mask

        def visible(b: torch.Tensor, h: torch.Tensor, query_tick: torch.Tensor, key_tick: torch.Tensor) -> torch.Tensor:
            begin = query_tick // chunk * chunk
            return (key_tick >= begin - left) & (key_tick < begin + chunk) & mask[b, key_tick]

        batch, ticks = mask.shape
        return create_block_mask(visible, batch, None, ticks, ticks, device=str(mask.device))


def draw_job(shape: Shape, device: torch.device, *, needs_grad: bool = False) -> Job:
    """Draw random inputs of different lengths, with a tenth of the cache masked.

    If there are several streams and a cache, the last stream is fully masked, so that its queries are blind.
    """
    batch, heads, ticks, cached, dim = shape.batch, shape.heads, shape.ticks, shape.cached, shape.head_dim

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, dtype=shape.dtype, device=device)

    query, key, value = (
        x.detach().requires_grad_(needs_grad)
        for x in normal(batch, ticks, 3, heads, dim).permute(2, 0, 3, 1, 4).unbind(0)
    )
    lengths = torch.randint((ticks + 1) // 2, ticks + 1, (batch, 1), device=device)
    lengths[0] = ticks
    mask = torch.arange(ticks, device=device) < lengths
    cache_mask = torch.rand(batch, cached, device=device) > 0.1
    if batch > 1 and cached:
        mask[-1], cache_mask[-1] = False, False
    next_tick = torch.randint(-(2**31), 2**31 - 1, (batch,), device=device).to(torch.int32)
    cache = dataclasses.replace(
        KeyValueCache.empty(batch, heads, cached, dim, like=query.detach()),
        key=normal(batch, heads, cached, dim),
        value=normal(batch, heads, cached, dim),
        mask=cache_mask,
        next_tick=next_tick,
    )
    return Job(shape, query, key, value, mask, cache)


def ours(job: Job) -> Tensors:
    """Return the output and the new cache's keys, values, mask and tick, from the backend of ``AVSR_KERNELS``."""
    shape = job.shape
    out, cache = chunk_attention(
        job.query, job.key, job.value, job.mask, job.cache, chunk_ticks=shape.chunk, left_ticks=shape.left
    )
    return out, cache.key, cache.value, cache.mask, cache.next_tick


def exact(job: Job) -> Tensors:
    """Return the exact results of ``ours``, in float64; rivals return the first four, without the tick."""
    shape = job.shape
    double = torch.float64
    turns = cos_sin(job.cache.next_tick, shape.ticks, shape.head_dim // 2, double)
    keys = torch.cat([job.cache.key.to(double), rotate(job.key.to(double), *turns)], dim=2)
    values = torch.cat([job.cache.value.to(double), job.value.to(double)], dim=2)
    shown = torch.cat([job.cache.mask, job.mask], dim=1)
    out = _attend(rotate(job.query.to(double), *turns), keys, values, _visible(shape, shown))
    kept = min(shape.left, shape.cached + shape.ticks)
    start = keys.shape[2] - kept
    next_tick = job.cache.next_tick + shape.ticks
    return out, keys[:, :, start:], values[:, :, start:], shown[:, start:], next_tick


def stream_eager(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor,
    cache_key: torch.Tensor, cache_value: torch.Tensor, cache_mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
) -> Tensors:  # fmt: skip
    """One chunk: product, masked softmax, product."""
    keys, values, shown = _window(key, value, mask, cache_key, cache_value, cache_mask, cos, sin)
    out = _attend(rotate(query, cos, sin), keys, values, shown[:, None, None, :])
    kept = cache_mask.shape[1]
    return out, keys[:, :, -kept:], values[:, :, -kept:], shown[:, -kept:]


def stream_sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor,
    cache_key: torch.Tensor, cache_value: torch.Tensor, cache_mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
    *, zeroes_blind: bool = False,
) -> Tensors:  # fmt: skip
    """One chunk: ``scaled_dot_product_attention`` with an explicit mask."""
    keys, values, shown = _window(key, value, mask, cache_key, cache_value, cache_mask, cos, sin)
    visible = shown[:, None, None, :]
    query, kept = rotate(query, cos, sin), cache_mask.shape[1]
    if zeroes_blind:
        blind = ~visible.any(-1, keepdim=True)
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=visible | blind).masked_fill(blind, 0.0)
    else:
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=visible)
    return out, keys[:, :, -kept:], values[:, :, -kept:], shown[:, -kept:]


def fastest_sdpa(shape: Shape, device: torch.device) -> Callable[..., Tensors]:
    """Return ``stream_sdpa``, which zeroes blind queries only if SDPA itself does not on this device."""
    job = draw_job(dataclasses.replace(shape, batch=2), device)  # its last stream is blind
    with torch.no_grad():
        out = stream_sdpa(*stream_inputs(job, turns_given=True))[0]
    return partial(stream_sdpa, zeroes_blind=bool((out[-1] != 0).any()))


def stream_flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor,
    cache_key: torch.Tensor, cache_value: torch.Tensor, cache_mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
) -> Tensors:  # fmt: skip
    """One chunk: FlexAttention, to be compiled whole.

    The window is so short that no block could be skipped: masking in the score function saves a block mask per chunk.
    """
    keys, values, shown = _window(key, value, mask, cache_key, cache_value, cache_mask, cos, sin)

    def hide(
        score: torch.Tensor, b: torch.Tensor, h: torch.Tensor, query_tick: torch.Tensor, key_tick: torch.Tensor
    ) -> torch.Tensor:
        return torch.where(shown[b, key_tick], score, -float("inf"))

    out = flex_attention(rotate(query, cos, sin), keys, values, score_mod=hide)
    assert isinstance(out, torch.Tensor)
    kept = cache_mask.shape[1]
    return out, keys[:, :, -kept:], values[:, :, -kept:], shown[:, -kept:]


def stream_inputs(job: Job, *, turns_given: bool) -> Tensors:
    """Return the arguments of the rivals for one chunk.

    Unless ``turns_given``, the angles and the next tick are computed here, as our kernel does for every chunk.
    """
    turns, cache = job.turns, job.cache
    if not turns_given:
        turns, _ = job.compute_turns(), cache.next_tick + job.shape.ticks
    return job.query, job.key, job.value, job.mask, cache.key, cache.value, cache.mask, *turns


def train_eager(job: Job) -> torch.Tensor:
    """Whole utterances: product, masked softmax, product; masks and angles are given."""
    return _attend(rotate(job.query, *job.turns), rotate(job.key, *job.turns), job.value, job.visible, job.blind)


def train_sdpa(job: Job) -> torch.Tensor:
    """Whole utterances: SDPA with an explicit bias; bias and angles are given."""
    query, key = rotate(job.query, *job.turns), rotate(job.key, *job.turns)
    return F.scaled_dot_product_attention(query, key, job.value, attn_mask=job.bias).masked_fill(job.blind, 0.0)


def train_flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    block_mask: BlockMask,
) -> torch.Tensor:
    """Whole utterances: FlexAttention, to be compiled whole; block mask and angles are given."""
    out = flex_attention(rotate(query, cos, sin), rotate(key, cos, sin), value, block_mask=block_mask)
    assert isinstance(out, torch.Tensor)
    return out


def exact_gradients(job: Job, grad_out: torch.Tensor, streams: int = 4) -> Tensors:
    """Return the output and the gradients of query, key and value in float64, a few streams at a time."""
    parts = []
    for first in range(0, job.shape.batch, streams):
        rows = slice(first, first + streams)
        query, key, value = (x.detach()[rows].double().requires_grad_() for x in (job.query, job.key, job.value))
        turns = cos_sin(job.cache.next_tick[rows], job.shape.ticks, job.shape.head_dim // 2, torch.float64)
        out = _attend(rotate(query, *turns), rotate(key, *turns), value, job.visible[rows])
        grads = torch.autograd.grad(out, (query, key, value), grad_out[rows].double())
        parts.append((out.detach(), *grads))
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


@dataclass(frozen=True)
class FusionJob:
    """Inputs of the fusion step: queries, keys and values of each sense, and the gates."""

    audio: Job
    video: Job
    gate_logits: torch.Tensor

    @property
    def moved_bytes(self) -> int:
        """Minimum memory traffic of a forward pass; the two senses share one output."""
        shape = self.audio.shape
        one_output = shape.batch * shape.heads * shape.ticks * shape.head_dim * shape.dtype.itemsize
        return 2 * shape.moved_bytes - one_output + 2 * self.gate_logits.nbytes


def draw_fusion_job(shape: Shape, device: torch.device) -> FusionJob:
    """Draw random inputs of both senses on the same ticks."""
    audio, video = draw_job(shape, device), draw_job(shape, device)
    video = dataclasses.replace(video, cache=dataclasses.replace(video.cache, next_tick=audio.cache.next_tick))
    return FusionJob(audio, video, torch.randn(shape.batch, shape.ticks, 2, dtype=shape.dtype, device=device))


def ours_fusion(job: FusionJob) -> Tensors:
    """Return the mix, the weights and both new caches, from the backend of ``AVSR_KERNELS``."""
    audio, video, shape = job.audio, job.video, job.audio.shape
    mixed, weights, cache = gated_cross_attention(
        (audio.query, audio.key, audio.value),
        (video.query, video.key, video.value),
        job.gate_logits,
        audio.mask,
        video.mask,
        FusionCache(audio.cache, video.cache),
        chunk_ticks=shape.chunk,
        left_ticks=shape.left,
    )
    return mixed, weights, cache.audio.key, cache.audio.value, cache.video.key, cache.video.value


def eager_fusion(job: FusionJob, dtype: torch.dtype | None = None) -> Tensors:
    """Return the same as ``ours_fusion`` for one chunk, in plain PyTorch; in float64 it is the exact result."""
    dtype = dtype or job.audio.shape.dtype
    windows, asking = [], []
    for sense in (job.audio, job.video):
        turns = cos_sin(sense.cache.next_tick, sense.shape.ticks, sense.shape.head_dim // 2, dtype)
        tensors = (sense.key, sense.value, sense.cache.key, sense.cache.value)
        key, value, cache_key, cache_value = (x.to(dtype) for x in tensors)
        windows.append(_window(key, value, sense.mask, cache_key, cache_value, sense.cache.mask, *turns))
        asking.append(rotate(sense.query.to(dtype), *turns))
    (audio_keys, audio_values, heard), (video_keys, video_values, seen) = windows
    sound = _attend(asking[1], audio_keys, audio_values, heard[:, None, None, :])
    lips = _attend(asking[0], video_keys, video_values, seen[:, None, None, :])
    present = torch.stack([job.audio.mask, job.video.mask], dim=-1)
    logits = job.gate_logits.to(dtype).masked_fill(~present, torch.finfo(dtype).min)
    weights = torch.softmax(logits, dim=-1) * present
    mixed = weights[:, None, :, :1] * sound + weights[:, None, :, 1:] * lips
    kept = slice(-job.audio.shape.cached, None)
    return (mixed, weights, *(x[:, :, kept] for x in (audio_keys, audio_values, video_keys, video_values)))


def relative_error(found: Tensors, wanted: Tensors) -> float:
    """Return the largest ``||found - wanted|| / ||wanted||`` of the tensors; infinite for NaN and wrong integers."""
    worst = 0.0
    for got, want in zip(found, wanted, strict=True):
        if got.shape != want.shape:
            return math.inf
        if not want.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(got, want) else math.inf)
            continue
        difference = torch.linalg.vector_norm(got.double() - want.double())
        error = float(difference / torch.linalg.vector_norm(want.double()).clamp_min(1e-30))
        worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill uninitialised memory with NaN, so that elements that are never written are noticed."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def compiled(function: Callable[..., T]) -> Callable[..., T]:
    """Compile for the shapes of the first call only, and drop earlier compilations."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, dynamic=False)


def _window(
    key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor,
    cache_key: torch.Tensor, cache_value: torch.Tensor, cache_mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    keys = torch.cat([cache_key, rotate(key, cos, sin)], dim=2)
    return keys, torch.cat([cache_value, value], dim=2), torch.cat([cache_mask, mask], dim=1)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    visible: torch.Tensor,
    blind: torch.Tensor | None = None,
) -> torch.Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    weights = torch.softmax(scores.masked_fill(~visible, torch.finfo(scores.dtype).min), dim=-1)
    return (weights @ values).masked_fill(~visible.any(-1, keepdim=True) if blind is None else blind, 0.0)


def _visible(shape: Shape, shown: torch.Tensor) -> torch.Tensor:
    ticks = torch.arange(-shape.cached, shape.ticks, device=shown.device)
    begin = (torch.arange(shape.ticks, device=shown.device) // shape.chunk * shape.chunk)[:, None]
    return (ticks >= begin - shape.left) & (ticks < begin + shape.chunk) & shown[:, None, None, :]
