"""Streams that go through the network together say what each says alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from stand_ins import Heard, LampFace, listen, packets_of, pictures, sound

from avsr.recognizer import Recognizer
from avsr.serve.batcher import BatchedNetwork, row, stack
from avsr.types import LIP_SIZE, AvChunk, Caption


def rounded(captions: list[Caption]) -> list[Caption]:
    """Return the captions with figures that the order of additions may change rounded."""
    return [
        replace(
            caption,
            audio_weight=round(caption.audio_weight, 4),
            words=tuple(replace(word, confidence=round(word.confidence, 3)) for word in caption.words),
        )
        for caption in captions
    ]


def chunk(seed: int, ticks: int = 8) -> AvChunk:
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(1, ticks, generator=generator) < 0.8
    lips = torch.randint(0, 256, (1, ticks, LIP_SIZE, LIP_SIZE), generator=generator).to(torch.uint8)
    return AvChunk(torch.randn(1, 4 * ticks, 80, generator=generator), lips, known, known.flip(1), seed * 8)


def test_a_stack_of_states_gives_back_its_rows(engine: Recognizer) -> None:
    network = engine.network
    with torch.inference_mode():
        states = [network.step(chunk(seed), network.init_state(), 8)[1] for seed in range(3)]
        together = stack(states)
        for index, state in enumerate(states):
            again = row(together, index)
            assert torch.equal(again.fused[0].attention.key, state.fused[0].attention.key)
            assert torch.equal(again.video_front, state.video_front)
            assert torch.equal(again.fusion.audio.next_tick, state.fusion.audio.next_tick)
            assert again.video_front.untyped_storage().nbytes() == again.video_front.nbytes  # the others may go


def test_a_batched_step_equals_single_ones_wherever_the_streams_stand(engine: Recognizer) -> None:
    """Streams of different age, so of different ticks, share a step."""
    network = engine.network
    with torch.inference_mode():
        states = []
        for age in range(3):
            state = network.init_state()
            for step in range(2 * age):
                state = network.step(chunk(100 * age + step), state, 8)[1]
            states.append(state)
        chunks = [chunk(7 + index) for index in range(3)]
        singles = [network.step(each, state, 8) for each, state in zip(chunks, states, strict=True)]
    gate, sizes = threading.Event(), []

    def count(num_streams: int) -> None:
        sizes.append(num_streams)
        gate.wait(10)

    batched = BatchedNetwork(network, 8, count)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batched.step, chunk(1), network.init_state(), 8)
        while not sizes:
            time.sleep(0.001)
        rest = [pool.submit(batched.step, each, state, 8) for each, state in zip(chunks, states, strict=True)]
        while batched._jobs.qsize() < 3:
            time.sleep(0.001)
        gate.set()
        first.result(10)
        results = [future.result(10) for future in rest]
    batched.close()
    assert sizes == [1, 3]
    for (log_probs, state), (expected, expected_state), each in zip(results, singles, chunks, strict=True):
        assert log_probs.start_tick == each.start_tick
        torch.testing.assert_close(log_probs.values, expected.values, atol=2e-4, rtol=0)
        torch.testing.assert_close(log_probs.audio_weight, expected.audio_weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            state.fused[0].attention.key, expected_state.fused[0].attention.key, atol=1e-4, rtol=0
        )


def test_batching_never_changes_captions(engine: Recognizer) -> None:
    clips = [packets_of(sound(2.4, seed), pictures(2.4, seed=seed), packet_samples=640 * seed) for seed in range(1, 6)]
    alone = [listen(engine.stream(landmarker=LampFace()), clip) for clip in clips]
    sizes: list[int] = []
    network = BatchedNetwork(engine.network, 4, sizes.append)
    barrier = threading.Barrier(len(clips))

    def together(index: int) -> Heard:
        stream = engine.stream(landmarker=LampFace(), network=network)
        barrier.wait()
        return listen(stream, clips[index])

    with ThreadPoolExecutor(len(clips)) as pool:
        heard = list(pool.map(together, range(len(clips))))
    network.close()
    assert sum(each.num_words for each in heard) >= 20
    assert max(sizes) > 1
    for each, expected in zip(heard, alone, strict=True):
        assert rounded(each.finals) == rounded(expected.finals)


def test_a_step_that_fails_fails_alone(engine: Recognizer) -> None:
    network = BatchedNetwork(engine.network, 4, lambda _: None)
    with pytest.raises(RuntimeError):
        network.step(replace(chunk(1), mel=torch.zeros(1, 32, 79)), network.init_state(), 8)
    assert network.step(chunk(1), network.init_state(), 8)[0].values.shape[:2] == (1, 8)
    assert network.is_alive
    network.close()
    with pytest.raises(RuntimeError, match="closed"):
        network.step(chunk(1), network.init_state(), 8)
