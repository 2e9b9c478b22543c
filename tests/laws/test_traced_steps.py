"""Recorded steps of the network are its own steps, whatever is heard and seen and wherever a stream stands."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, wraps
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import LampFace, Packet, listen, tiny_sizes

from avsr.config import FusionKind
from avsr.model import AvsrModel, ModelState
from avsr.recognizer import Recognizer
from avsr.stream import Network
from avsr.traced import TracedNetwork, map_tensors, tensors_of
from avsr.types import LIP_SIZE, AvChunk

KINDS: tuple[FusionKind, ...] = get_args(FusionKind)
VOCAB = 11


@cache
def networks(fusion: FusionKind = "gated") -> tuple[AvsrModel, TracedNetwork]:
    """Return a network, and the same one traced."""
    torch.manual_seed(3)
    with torch.inference_mode(False):
        network = AvsrModel(tiny_sizes(VOCAB, fusion)).eval()
    return network, TracedNetwork(network)


def chunk(seed: int, heard: list[bool], visible: list[bool], batch: int = 1) -> AvChunk:
    """Return noise."""
    generator, ticks = torch.Generator().manual_seed(seed), len(heard)
    lips = torch.randint(0, 256, (batch, ticks, LIP_SIZE, LIP_SIZE), generator=generator).to(torch.uint8)
    mel = torch.randn(batch, 4 * ticks, 80, generator=generator)
    return AvChunk(mel, lips, torch.tensor([heard] * batch), torch.tensor([visible] * batch), seed * ticks)


def whole(seed: int, ticks: int = 8) -> AvChunk:
    """Return a chunk of which all is there."""
    return chunk(seed, [True] * ticks, [True] * ticks)


def assert_same(state: ModelState, expected: ModelState) -> None:
    """Compare every tensor."""
    for tensor, other in zip(tensors_of(state), tensors_of(expected), strict=True):
        assert (tensor.shape, tensor.dtype) == (other.shape, other.dtype)
        torch.testing.assert_close(tensor, other, atol=1e-5, rtol=1e-5)


@pytest.fixture
def eager_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes of the steps that go through `AvsrModel.step`."""
    taken: list[int] = []
    step = AvsrModel.step

    @wraps(step)
    def counted(self: AvsrModel, chunk: AvChunk, *rest: object) -> object:
        taken.append(chunk.heard.shape[0])
        return step(self, chunk, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(AvsrModel, "step", counted)
    return taken


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been recorded yet."""
    monkeypatch.setattr("avsr.traced._graphs", {})


@torch.inference_mode()
@settings(deadline=None, max_examples=10)
@given(data=st.data(), sizes=st.sampled_from(list(zip(KINDS, (8, 4, 16, 8), strict=True))), num_steps=st.integers(1, 5))
def test_tracing_never_changes_what_a_step_gives(
    data: st.DataObject, sizes: tuple[FusionKind, int], num_steps: int
) -> None:
    """Traced and eager steps in any order, of any senses, against eager steps alone."""
    fusion, ticks = sizes
    network, traced = networks(fusion)
    steppers: list[Network] = [traced, traced, network]
    state = expected_state = network.init_state()
    mask = st.one_of(
        st.just([True] * ticks), st.just([False] * ticks), st.lists(st.booleans(), min_size=ticks, max_size=ticks)
    )
    for seed in range(num_steps):
        each = chunk(seed, data.draw(mask), data.draw(mask))
        stepper = data.draw(st.sampled_from(steppers))
        log_probs, state = stepper.step(each, state, ticks)
        expected, expected_state = network.step(each, expected_state, ticks)
        assert log_probs.start_tick == expected.start_tick
        torch.testing.assert_close(log_probs.values, expected.values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(log_probs.audio_weight, expected.audio_weight, atol=1e-5, rtol=0)
        assert_same(state, expected_state)


@torch.inference_mode()
@pytest.mark.parametrize("next_tick", [0, 8 * 1_000_003, 2**31 - 8, -(2**31)])
def test_a_stream_may_stand_anywhere(next_tick: int) -> None:
    network, traced = networks()

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return torch.full_like(tensor, next_tick) if tensor.dtype == torch.int32 else tensor

    state = expected_state = map_tensors(network.init_state(), moved)
    for seed in range(4):
        log_probs, state = traced.step(whole(seed), state, 8)
        expected, expected_state = network.step(whole(seed), expected_state, 8)
        torch.testing.assert_close(log_probs.values, expected.values, atol=1e-5, rtol=1e-5)
    assert_same(state, expected_state)
    wrapped = (next_tick + 32 + 2**31) % 2**32 - 2**31
    assert state.audio[0].attention.next_tick.tolist() == [wrapped]


@torch.inference_mode()
def test_stepping_never_changes_the_state_that_was_given() -> None:
    network, traced = networks()
    _, state = traced.step(whole(1), network.init_state(), 8)
    before = pickle.dumps(state)
    first, _ = traced.step(whole(2), state, 8)
    traced.step(chunk(3, [True] * 8, [False] * 8), state, 8)
    assert pickle.dumps(state) == before
    assert torch.equal(traced.step(whole(2), state, 8)[0].values, first.values)


@torch.inference_mode()
def test_only_one_whole_chunk_of_one_stream_is_traced(eager_steps: list[int]) -> None:
    network, traced = networks()
    traced.prepare(8, sees=True)
    eager_steps.clear()
    _, state = traced.step(whole(0), network.init_state(), 8)
    assert eager_steps == []
    others: list[tuple[AvChunk, ModelState, int]] = [
        (whole(1, ticks=3), state, 8),  # the last of a stream
        (whole(1, ticks=16), state, 8),  # two chunks at once
        (whole(1, ticks=8), state, 2),  # a length that the model was not trained for
        (whole(1), network.init_state(context_ticks=0), 8),
        (chunk(1, [True] * 8, [True] * 8, batch=2), network.init_state(2), 8),
        (replace(whole(1), lips=whole(1).lips.float()), state, 8),
    ]
    for number, other in enumerate(others, 1):
        log_probs, _ = traced.step(*other)
        assert len(eager_steps) == number
        assert torch.equal(log_probs.values, network.step(*other)[0].values)
        eager_steps.pop()


@torch.inference_mode()
@pytest.mark.usefixtures("no_graphs")
def test_a_network_in_training_is_never_traced(eager_steps: list[int]) -> None:
    network = AvsrModel(tiny_sizes(VOCAB))
    traced = TracedNetwork(network)
    traced.prepare(8, sees=True)
    assert eager_steps == []
    traced.step(whole(1), network.init_state(), 8)
    assert eager_steps == [1]


def test_gradients_are_never_lost(eager_steps: list[int]) -> None:
    network, traced = networks()
    traced.prepare(8, sees=True)
    eager_steps.clear()
    log_probs, _ = traced.step(whole(1), network.init_state(), 8)
    assert eager_steps == [1]
    assert log_probs.values.requires_grad


@torch.inference_mode()
def test_triton_kernels_are_never_traced(eager_steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    network, traced = networks()
    traced.prepare(8, sees=True)
    eager_steps.clear()
    monkeypatch.setattr("avsr.traced.use_triton", lambda query: True)
    traced.step(whole(1), network.init_state(), 8)
    assert eager_steps == [1]


@torch.inference_mode()
@pytest.mark.usefixtures("no_graphs")
def test_a_prepared_network_records_nothing_later(eager_steps: list[int]) -> None:
    traced = TracedNetwork(networks()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        traced.prepare(8, sees=True)
    assert len(eager_steps) == 2
    for seed in range(2):
        traced.step(whole(seed), traced.init_state(), 8)
        traced.step(chunk(seed, [True] * 8, [False] * 8), traced.init_state(), 8)
    assert len(eager_steps) == 2


def test_kernels_that_are_compiled_at_a_first_step_are_compiled_ahead_of_it(
    eager_steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avsr.traced.use_triton", lambda query: True)
    traced = TracedNetwork(networks()[0])
    for _ in range(3):  # once for all streams
        traced.prepare(8, sees=True)
        assert eager_steps == [1, 1]


@torch.inference_mode()
@pytest.mark.usefixtures("no_graphs")
def test_networks_of_the_same_sizes_share_the_graphs_and_keep_their_weights(eager_steps: list[int]) -> None:
    """TorchScript never frees a graph: whoever loads models all day must not need more and more memory."""
    values = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = AvsrModel(tiny_sizes(VOCAB)).eval()
        traced = TracedNetwork(network)
        log_probs, _ = traced.step(whole(0), traced.init_state(), 8)
        assert len(eager_steps) == 1
        expected, _ = AvsrModel.step.__wrapped__(network, whole(0), network.init_state(), 8)
        torch.testing.assert_close(log_probs.values, expected.values, atol=1e-5, rtol=1e-5)
        values.append(log_probs.values)
    assert not torch.allclose(values[0], values[1]) and not torch.allclose(values[1], values[2])


@pytest.mark.usefixtures("no_graphs")
def test_threads_share_the_graphs(eager_steps: list[int]) -> None:
    network = networks()[0]
    traced = TracedNetwork(network)

    @torch.inference_mode()
    def go(seed: int) -> torch.Tensor:
        state = traced.init_state()
        for step in range(5):
            log_probs, state = traced.step(whole(10 * seed + step), state, 8)
        return log_probs.values

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(go, range(8)))
    assert len(eager_steps) == 1
    for seed, values in enumerate(together):
        assert torch.equal(values, go(seed))


@torch.inference_mode()
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda traced: pickle.loads(pickle.dumps(traced))])
def test_a_copy_steps_the_same(copied: Callable[[TracedNetwork], TracedNetwork]) -> None:
    _, traced = networks()
    expected, _ = traced.step(whole(1), traced.init_state(), 8)
    other = copied(traced)
    assert torch.equal(other.step(whole(1), other.init_state(), 8)[0].values, expected.values)


@pytest.mark.usefixtures("no_graphs")
def test_graphs_never_keep_the_weights_of_a_network_that_is_gone() -> None:
    network = AvsrModel(tiny_sizes(VOCAB)).eval()
    TracedNetwork(network).prepare(8, sees=True)
    places = {weight.data_ptr() for weight in network.parameters()}
    assert tensors_at(places)
    del network
    assert not tensors_at(places)


def tensors_at(places: set[int]) -> list[torch.Size]:
    """List the tensors alive, views and copies of references too, whose memory begins there."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
    return [each.shape for each in tensors if each.data_ptr() in places]


def test_tracing_never_changes_captions(engine: Recognizer, clip: list[Packet]) -> None:
    eager = listen(engine.stream(landmarker=LampFace(), network=engine.network), clip)
    traced = listen(engine.stream(landmarker=LampFace()), clip)
    assert traced.num_words >= 9
    words, expected = (
        [(word.text, word.start_s, word.end_s) for caption in heard.finals for word in caption.words]
        for heard in (traced, eager)
    )
    assert words == expected
