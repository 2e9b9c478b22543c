"""One streaming step of the whole network: from a captured graph, split by module, and for many streams at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, TypeVar
from unittest.mock import patch

import torch
import torch.nn.functional as F
from _timing import Call, Spread, capture, time_launched, time_replayed

from avsr.bundle import load_bundle
from avsr.model import AvsrModel
from avsr.nn import attention, fusion
from avsr.nn.attention import ChunkSelfAttention
from avsr.nn.conformer import FeedForward
from avsr.nn.convolution import ConvModule
from avsr.traced import map_tensors, tensors_of
from avsr.types import LIP_SIZE, MELS_PER_TICK, NUM_MELS, AvChunk, LogProbs

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a chunk in the host's memory to log-probabilities in the host's memory."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class LaunchedStep:
    """``AvsrModel.step``, launched kernel by kernel, for chunks like ``example``; keeps its streams' state."""

    def __init__(self, model: AvsrModel, example: AvChunk) -> None:
        self._model, self._chunk_ticks = model, example.num_ticks
        self._weight = next(model.parameters())
        self._state = model.init_state(len(example.heard))

    def __call__(self, chunk: AvChunk) -> LogProbs:
        """Step all streams; the result stays on the device."""
        on_device = map_tensors(chunk, lambda x: x.to(self._weight.device, non_blocking=True))
        log_probs, self._state = self._model.step(on_device, self._state, self._chunk_ticks)
        return log_probs


class GraphedStep:
    """``AvsrModel.step``, captured once and replayed for every chunk like ``example``; keeps its streams' state.

    Inputs and state live in fixed buffers. The graph ends by copying the new state over the old one, so that the next
    replay continues from it. A result is overwritten by the next replay.
    """

    def __init__(self, model: AvsrModel, example: AvChunk) -> None:
        weight, chunk_ticks = next(model.parameters()), example.num_ticks
        self._chunk = map_tensors(example, lambda x: x.to(weight.device, copy=True))
        # Cloned: an empty state's keys and values share one tensor, but each needs its own buffer.
        self._state = map_tensors(
            model.init_state(len(example.heard)), lambda x: x.clone(memory_format=torch.contiguous_format)
        )
        beginning = [x.clone() for x in tensors_of(self._state)]

        def advance() -> LogProbs:
            log_probs, state = model.step(self._chunk, self._state, chunk_ticks)
            _copy_all(tensors_of(self._state), tensors_of(state))
            return log_probs

        self._graph, log_probs = capture(advance)
        assert isinstance(log_probs, LogProbs)
        self._log_probs = log_probs
        _copy_all(tensors_of(self._state), beginning)  # the warm-up has changed it

    def __call__(self, chunk: AvChunk) -> LogProbs:
        """Step all streams; the result stays on the device and is overwritten by the next step."""
        for place, x in zip(tensors_of(self._chunk), tensors_of(chunk), strict=True):
            place.copy_(x, non_blocking=True)
        self._graph.replay()
        return self._log_probs

    @property
    def state_bytes(self) -> int:
        """Bytes of all the streams' state."""
        return sum(x.nbytes for x in tensors_of(self._state))


def load_default_model(device: torch.device, dtype: torch.dtype) -> AvsrModel:
    """Return the network of the default bundle, for inference."""
    bundle = load_bundle()
    model = AvsrModel(bundle.config.model)
    model.load_state_dict(bundle.state_dict())
    return model.to(device, dtype).eval().requires_grad_(False)


def draw_chunk(batch: int, ticks: int, dtype: torch.dtype) -> AvChunk:
    """Draw a chunk in which both senses are present, in the host's memory, pinned if there is a GPU."""
    present = torch.ones(batch, ticks, dtype=torch.bool)
    lips = torch.randint(0, 256, (batch, ticks, LIP_SIZE, LIP_SIZE), dtype=torch.uint8)
    mel = torch.randn(batch, MELS_PER_TICK * ticks, NUM_MELS, dtype=dtype)
    chunk = AvChunk(mel, lips, present, present.clone())
    return map_tensors(chunk, lambda x: x.pin_memory()) if torch.cuda.is_available() else chunk


def latencies_ms(step: Callable[[AvChunk], LogProbs], chunk: AvChunk, steps: int, limit_ms: float) -> list[float]:
    """Time ``steps`` steps; stop early, after 10 or more, if over a tenth of them took longer than ``limit_ms``."""
    samples: list[float] = []
    for _ in range(steps):
        begun = time.perf_counter()
        step(chunk).values.cpu()
        samples.append((time.perf_counter() - begun) * 1e3)
        if len(samples) >= 10 and sum(x > limit_ms for x in samples) > len(samples) / 10:
            break
    return samples


def summarise(samples_ms: list[float]) -> Latency:
    """Return the percentiles."""
    hundredths = quantiles(samples_ms, n=100, method="inclusive")
    return Latency(hundredths[49], hundredths[98], max(samples_ms))


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many streams one GPU can serve at once, and how many are too many; at ``chunk_ticks`` ticks per step."""

    streams: int
    too_many: int | None
    why_too_many: str
    chunk_ticks: int
    p50_ms: float
    p99_ms: float
    state_bytes_a_stream: float
    peak_memory_gb: float


def find_capacity(
    model: AvsrModel, chunk_ticks: int, *, p99_limit_ms: float, until: float, first: int = 256, steps: int = 100
) -> Capacity | None:
    """Find the most streams whose batched, captured step stays below ``p99_limit_ms``: double, then bisect.

    Stops at ``until`` (of ``time.perf_counter``) with the best found so far; None if not even ``first`` streams fit.
    """
    held: Capacity | None = None
    too_many, why, batch = None, "not reached in the time given", first
    while time.perf_counter() < until:
        found = _hold(model, batch, chunk_ticks, steps, p99_limit_ms)
        if isinstance(found, Capacity):
            held = found
        elif batch == first:
            return None
        else:
            too_many, why = batch, found
        assert held is not None
        if too_many is None:
            batch = 2 * held.streams
        elif too_many - held.streams <= held.streams / 16:
            break
        else:
            batch = (held.streams + too_many) // 2
    return None if held is None else dataclasses.replace(held, too_many=too_many, why_too_many=why)


def _hold(model: AvsrModel, batch: int, chunk_ticks: int, steps: int, p99_limit_ms: float) -> Capacity | str:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        chunk = draw_chunk(batch, chunk_ticks, next(model.parameters()).dtype)
        step = GraphedStep(model, chunk)
        latencies_ms(step, chunk, 3, p99_limit_ms)
        samples = latencies_ms(step, chunk, steps, p99_limit_ms)
    except RuntimeError as error:
        # Running out of memory during a capture may raise another error, about the graph, on top.
        if isinstance(error, torch.OutOfMemoryError) or isinstance(error.__context__, torch.OutOfMemoryError):
            return "out of memory"
        raise
    latency = summarise(samples)
    if latency.p99_ms > p99_limit_ms:
        return f"p99 {latency.p99_ms:.0f} ms over {len(samples)} steps"
    peak_gb = torch.cuda.max_memory_allocated() / 1e9
    return Capacity(batch, None, "", chunk_ticks, latency.p50_ms, latency.p99_ms, step.state_bytes / batch, peak_gb)


def split_by_part(model: AvsrModel, chunk_ticks: int) -> dict[str, tuple[Spread, Spread | None]]:
    """Time each part of one step of one stream separately, launched and (on a GPU) replayed.

    A step is run once while the calls of every part are recorded; then each part's calls are repeated and timed alone.
    A part whose name begins with two spaces is contained in the one above it.
    """
    weight = next(model.parameters())
    chunk = map_tensors(draw_chunk(1, chunk_ticks, weight.dtype), lambda x: x.to(weight.device))
    state = model.init_state(1)
    calls = _record(model, lambda: model.step(chunk, state, chunk_ticks))
    calls["the whole step"] = [lambda: model.step(chunk, state, chunk_ticks)]
    spreads = {}
    for part, work in calls.items():

        def once(work: list[Call] = work) -> object:
            return [call() for call in work]

        spreads[part] = (
            time_launched([once], weight.device, repeats=60),
            time_replayed([once], repeats=30) if weight.is_cuda else None,
        )
    return spreads


PARTS = (
    "visual trunk",
    "audio front",
    "feed-forward",
    "attention",
    "  chunk_attention",
    "convolution module",
    "  conv_step",
    "fusion",
    "  gated_cross_attention",
    "heads",
)
"""``conv_step`` is what a fused kernel could do between the projections: GLU, depthwise convolution, norm, SiLU."""


def _record(model: AvsrModel, run: Call) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {part: [] for part in PARTS}

    def recorder(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            calls[part].append(lambda: function(*args, **kwargs))
            if part == "convolution module":
                calls["  conv_step"].append(_conv_step(*args, module=function.__self__))  # type: ignore[attr-defined]
            return function(*args, **kwargs)

        return record

    with ExitStack() as patches:

        def watch(owner: Any, name: str, part: str) -> None:
            patches.enter_context(patch.object(owner, name, recorder(part, getattr(owner, name))))

        watch(model.video_front, "step", "visual trunk")
        watch(model.audio_front, "step", "audio front")
        watch(model.fusion, "step", "fusion")
        watch(model.fused_head, "forward", "heads")
        watch(attention, "chunk_attention", "  chunk_attention")
        watch(fusion, "gated_cross_attention", "  gated_cross_attention")
        for module in model.modules():
            if isinstance(module, FeedForward):
                watch(module, "forward", "feed-forward")
            elif isinstance(module, ChunkSelfAttention):
                watch(module, "step", "attention")
            elif isinstance(module, ConvModule):
                watch(module, "step", "convolution module")
        run()
    return calls


def _conv_step(x: torch.Tensor, state: torch.Tensor, *, module: ConvModule) -> Call:
    expanded = module.expand(module.norm(x))

    def run() -> object:
        y, new_state = module.depthwise.step(F.glu(expanded, dim=-1), state)
        return F.silu(module.inner_norm(y)), new_state

    return run


def _copy_all(places: list[torch.Tensor], new: list[torch.Tensor]) -> None:
    """Copy ``new`` into ``places`` in few launches, one per dtype."""
    for dtype in {x.dtype for x in places}:
        chosen = [i for i, x in enumerate(places) if x.dtype == dtype]
        torch._foreach_copy_([places[i] for i in chosen], [new[i] for i in chosen])
