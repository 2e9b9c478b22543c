"""The network's step as a recorded graph: the same operations on the same weights, without Python between them.

One chunk of one stream is a thousand small operations, and on a processor a third of the time of `AvsrModel.step` is
spent between them. So what streams do all the time, one whole chunk with the whole left context behind it, is recorded
(TorchScript's tracing) and played back; whatever else comes goes through `AvsrModel.step`::

    a whole chunk, a tick of it visible ──► the graph that looks at every picture ──┐
    a whole chunk, nothing visible ───────► the graph that looks at none ───────────┼─► the same kind of state
    anything else ────────────────────────► AvsrModel.step ─────────────────────────┘

A trace contains no ``if``: it repeats the operations that ran when it was recorded. The only branch in `AvsrModel.step`
that depends on values is whether any picture is looked at, hence two graphs; all others depend on shapes, which are
compared before a graph is used. Which path a chunk takes does not depend on how the input was cut into packets; it
depends on other streams only where a server steps several at once. The paths agree within rounding.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from avsr_kernels.dispatch import use_triton
from torch import nn

from avsr.config import ModelConfig
from avsr.model import AvsrModel, ModelState
from avsr.types import LIP_SIZE, MELS_PER_TICK, NUM_MELS, AvChunk, LogProbs

T = TypeVar("T")
Graph = Callable[..., tuple[torch.Tensor, ...]]
Kind = tuple[torch.Size, torch.dtype]

# TorchScript never frees a graph, so one for each network would leak. Weights are inputs: equal sizes share a graph.
_graphs: dict[tuple[ModelConfig, torch.dtype, int, bool], Graph] = {}
_making = threading.Lock()


class TracedNetwork:
    """A `Network` that steps `AvsrModel` faster, for inference with weights that stay; safe in any number of threads.

    Graphs are made at first use, or earlier by ``prepare``, and are shared by all networks of the same sizes. They run
    with the weights that the network had when it was wrapped: after ``to``, or ``load_state_dict(assign=True)``, wrap
    it again. `AvsrModel.step` itself is used on a GPU, with Triton kernels, in training mode, where gradients are
    recorded, for batches, for a shorter last chunk and for many chunks at once.
    """

    def __init__(self, network: AvsrModel) -> None:
        self._network = network
        self._weights = (*network.parameters(), *network.buffers())
        state = network.init_state()
        self._prepared: set[tuple[int, bool]] = set()
        self._kinds = {ticks: _kinds(_inputs(_blank(ticks), state)) for ticks in network.config.chunk_sizes}

    @property
    def device(self) -> torch.device:
        """Where chunks are wanted."""
        return self._network.device

    def init_state(self) -> ModelState:
        """Return the state of a stream that has not begun."""
        return self._network.init_state()

    def prepare(self, chunk_ticks: int, *, sees: bool) -> None:
        """Make graphs (on a GPU: compile kernels) now, so that a stream with such chunks is not delayed at its start.

        ``sees`` is False for a stream that only hears.
        """
        wanted = chunk_ticks, sees
        if chunk_ticks not in self._kinds or self._network.training or wanted in self._prepared:
            return
        state = self._network.init_state()
        for any_visible in (False, True) if sees else (False,):
            if self._can_trace(state):
                _graph(self._network, chunk_ticks, any_visible)
            else:  # a GPU's first step compiles kernels
                chunk = map_tensors(_blank(chunk_ticks, any_visible), lambda tensor: tensor.to(self.device))
                with torch.inference_mode():
                    self._network.step(chunk, state, chunk_ticks)
        self._prepared.add(wanted)

    def step(self, chunk: AvChunk, state: ModelState, chunk_ticks: int) -> tuple[LogProbs, ModelState]:
        """Do as `AvsrModel.step`."""
        inputs = _inputs(chunk, state)
        if torch.is_grad_enabled() or not self._can_trace(state) or _kinds(inputs) != self._kinds.get(chunk_ticks):
            return self._network.step(chunk, state, chunk_ticks)
        graph = _graph(self._network, chunk_ticks, bool(chunk.visible.any()))
        values, audio_weight, *rest = _play(graph, self._weights, inputs)
        return LogProbs(values, audio_weight, chunk.start_tick), _rebuilt(state, iter(rest))

    def _can_trace(self, state: ModelState) -> bool:
        network = self._network
        return network.device.type == "cpu" and not network.training and not use_triton(state.fused[0].attention.key)


def map_tensors(value: T, change: Callable[[torch.Tensor], torch.Tensor]) -> T:
    """Apply ``change`` to every tensor of ``value``, nested tuples and dataclasses, such as chunks and states."""
    changed: T = _map_tensors(value, change)
    return changed


def tensors_of(value: object) -> list[torch.Tensor]:
    """List the tensors in the order in which ``map_tensors`` visits them."""
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def _map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map_tensors(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(*(_map_tensors(getattr(value, each.name), change) for each in fields(value)))
    return value


def _graph(network: AvsrModel, chunk_ticks: int, any_visible: bool) -> Graph:
    key = network.config, next(network.parameters()).dtype, chunk_ticks, any_visible
    if key not in _graphs:
        with _making:
            if key not in _graphs:
                _graphs[key] = _trace(network, chunk_ticks, any_visible)
    return _graphs[key]


def _trace(network: AvsrModel, chunk_ticks: int, any_visible: bool) -> Graph:
    """Record a step on zeros, and run it once, since the first run is slow."""
    with torch.device("meta"):  # no weights: they are inputs of the graph
        bare = AvsrModel(network.config).eval()
    names = [name for name, _ in (*bare.named_parameters(), *bare.named_buffers())]
    weights = (*network.parameters(), *network.buffers())
    state = network.init_state()

    def step(weights: tuple[torch.Tensor, ...], inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        for name, weight in zip(names, weights, strict=True):
            _put(bare, name, weight)
        mel, lips, heard, visible, *rest = inputs
        chunk = AvChunk(mel, lips, heard, visible)
        log_probs, new = bare.step(chunk, _rebuilt(state, iter(rest)), chunk_ticks)
        return (log_probs.values, log_probs.audio_weight, *tensors_of(new))

    inputs = _inputs(_blank(chunk_ticks, any_visible), state)
    with torch.inference_mode(), warnings.catch_warnings():
        # Sizes become constants, which is intended.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # PyTorch is pinned, so its removal would be noticed; torch.compile would need a compiler on the user's machine.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        graph: Graph = torch.jit.trace(step, (weights, tuple(inputs)), check_trace=False)  # type: ignore[no-untyped-call]
        _play(graph, weights, inputs)
    for name in names:  # PyTorch keeps ``step`` alive with the graph, and through ``bare`` these weights
        _put(bare, name, None)
    return graph


def _put(module: nn.Module, name: str, weight: torch.Tensor | None) -> None:
    """Make ``weight`` what the module computes with."""
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, weight)


def _play(graph: Graph, weights: tuple[torch.Tensor, ...], inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    # TorchScript's optimiser does not make a step faster, and would take half a second on each of the first two.
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        return graph(weights, tuple(inputs))


def _blank(num_ticks: int, any_visible: bool = False) -> AvChunk:
    return AvChunk(
        mel=torch.zeros(1, MELS_PER_TICK * num_ticks, NUM_MELS),
        lips=torch.zeros(1, num_ticks, LIP_SIZE, LIP_SIZE, dtype=torch.uint8),
        heard=torch.ones(1, num_ticks, dtype=torch.bool),
        visible=torch.full((1, num_ticks), any_visible),
    )


def _inputs(chunk: AvChunk, state: ModelState) -> list[torch.Tensor]:
    return [chunk.mel, chunk.lips, chunk.heard, chunk.visible, *tensors_of(state)]


def _kinds(tensors: list[torch.Tensor]) -> list[Kind]:
    return [(tensor.shape, tensor.dtype) for tensor in tensors]


def _rebuilt(like: ModelState, tensors: Iterator[torch.Tensor]) -> ModelState:
    return map_tensors(like, lambda _: next(tensors))
