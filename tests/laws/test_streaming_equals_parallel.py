"""Laws 2, 3 and 4, for every kind of fusion: state is a value, streaming is the parallel pass, and nothing grows."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
import torch

from avsr.config import FusionKind, ModelConfig
from avsr.model import AvsrModel, ModelState
from avsr.nn.attention import Window
from avsr.serve.batcher import row, stack
from avsr.types import LIP_SIZE, NUM_MELS, AvChunk

CONFIG = ModelConfig(
    vocab_size=11,
    dim=32,
    num_heads=2,
    ff_mult=2,
    conv_kernel=7,
    num_audio_layers=2,
    num_video_layers=2,
    num_fusion_layers=2,
    left_context_ticks=12,
    fusion_context_ticks=6,
    lip_channels=(2, 3, 4, 4),
)
BATCH, TICKS = 2, 45


@pytest.fixture(scope="module", params=get_args(FusionKind))
def model(request: pytest.FixtureRequest) -> AvsrModel:
    torch.manual_seed(5)
    model = AvsrModel(CONFIG.model_copy(update={"fusion": request.param})).eval()
    # Fresh batch statistics are 0 and 1, which would hide a stage that forgot to use them.
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def chunk() -> AvChunk:
    generator = torch.Generator().manual_seed(7)
    return AvChunk(
        mel=torch.randn(BATCH, 4 * TICKS, NUM_MELS, generator=generator),
        lips=torch.randint(0, 256, (BATCH, TICKS, LIP_SIZE, LIP_SIZE), generator=generator).to(torch.uint8),
        heard=torch.rand(BATCH, TICKS, generator=generator) > 0.3,
        visible=torch.rand(BATCH, TICKS, generator=generator) > 0.3,
    )


def cut(chunk: AvChunk, start: int, end: int) -> AvChunk:
    return AvChunk(
        chunk.mel[:, 4 * start : 4 * end],
        chunk.lips[:, start:end],
        chunk.heard[:, start:end],
        chunk.visible[:, start:end],
        start,
    )


def one_of(chunk: AvChunk, index: int) -> AvChunk:
    return AvChunk(*(x[index : index + 1] for x in (chunk.mel, chunk.lips, chunk.heard, chunk.visible)))


def stream(model: AvsrModel, chunk: AvChunk, chunk_ticks: int, state: ModelState) -> tuple[torch.Tensor, ModelState]:
    pieces = []
    for start in range(0, chunk.num_ticks, chunk_ticks):
        log_probs, state = model.step(cut(chunk, start, min(start + chunk_ticks, chunk.num_ticks)), state, chunk_ticks)
        pieces.append(log_probs.values)
    return torch.cat(pieces, dim=1), state


def leaves(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, tuple):
        return [leaf for item in state for leaf in leaves(item)]
    return [leaf for field in dataclasses.fields(state) for leaf in leaves(getattr(state, field.name))]


@torch.inference_mode()
@pytest.mark.parametrize("chunk_ticks", CONFIG.chunk_sizes)
def test_step_agrees_with_the_parallel_pass(model: AvsrModel, chunk: AvChunk, chunk_ticks: int) -> None:
    whole, _ = model.step(chunk, model.init_state(BATCH, context_ticks=0), chunk_ticks)
    streamed, _ = stream(model, chunk, chunk_ticks, model.init_state(BATCH))
    assert (whole.values - streamed).abs().max() <= 1e-5


@torch.inference_mode()
def test_several_chunks_at_once_agree_with_one_by_one(model: AvsrModel, chunk: AvChunk) -> None:
    one_by_one, _ = stream(model, chunk, 8, model.init_state(BATCH))
    state, pieces = model.init_state(BATCH), []
    for start, end in ((0, 16), (16, 40), (40, 45)):
        log_probs, state = model.step(cut(chunk, start, end), state, 8)
        pieces.append(log_probs.values)
    assert (torch.cat(pieces, dim=1) - one_by_one).abs().max() <= 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("left_ticks", [0, 5, 12])
def test_streams_with_a_shorter_left_context_agree_with_the_parallel_pass(
    model: AvsrModel, chunk: AvChunk, left_ticks: int
) -> None:
    """Training draws the left context for whole utterances; what it learns must be what such a stream would see."""
    window, every_tick = Window(8, left_ticks), torch.ones(BATCH, TICKS, dtype=torch.bool)
    whole, _ = model.encode(chunk, every_tick, model.init_state(BATCH, context_ticks=0), window)
    state, pieces = model.init_state(BATCH, left_ticks), []
    shapes = [leaf.shape for leaf in leaves(state)]
    for start in range(0, TICKS, 8):
        now = slice(start, min(start + 8, TICKS))
        output, state = model.encode(cut(chunk, now.start, now.stop), every_tick[:, now], state, window)
        pieces.append(output.fused)
        assert [leaf.shape for leaf in leaves(state)] == shapes
    assert (torch.cat(pieces, dim=1) - whole.fused).abs().max() <= 1e-5


@torch.inference_mode()
def test_attention_sees_no_further_back_than_the_window(model: AvsrModel, chunk: AvChunk) -> None:
    def apart(left_ticks: int) -> torch.Tensor:
        """Return how much each tick of the branches and of all changes with the first 8, (3, TICKS)."""
        every_tick, window = torch.ones(BATCH, TICKS, dtype=torch.bool), Window(8, left_ticks)
        one, other = (
            model.encode(x, every_tick, model.init_state(BATCH, context_ticks=0), window)[0] for x in (chunk, changed)
        )
        pairs = ((one.audio, other.audio), (one.video, other.video), (one.fused, other.fused))
        return torch.stack([(a - b).abs().amax((0, 2)) for a, b in pairs])

    mel, lips = chunk.mel.clone(), chunk.lips.clone()
    mel[:, : 4 * 8], lips[:, :8] = 0, 0
    changed = dataclasses.replace(chunk, mel=mel, lips=lips)
    # By convolutions alone what is known moves on by 6 ticks a block, 2 in either front end, and with its whole chunk.
    near, far = apart(left_ticks=0), apart(left_ticks=12)
    assert near[:2, 8:].amax(1).gt(1e-4).all()
    assert near[:2, 32:].max() == 0
    assert far[:2, 32:].amax(1).gt(1e-6).all()
    assert far[2, 32:].max() > near[2, 32:].max()


@torch.inference_mode()
def test_chunks_never_see_the_future(model: AvsrModel, chunk: AvChunk) -> None:
    mel, lips = chunk.mel.clone(), chunk.lips.clone()
    mel[:, 4 * 16 :], lips[:, 16:] = 0, 0
    changed = dataclasses.replace(chunk, mel=mel, lips=lips)
    for chunk_ticks in (4, 8, 16):
        first, _ = model.step(chunk, model.init_state(BATCH, context_ticks=0), chunk_ticks)
        second, _ = model.step(changed, model.init_state(BATCH, context_ticks=0), chunk_ticks)
        torch.testing.assert_close(first.values[:, :16], second.values[:, :16])


@torch.inference_mode()
def test_step_leaves_the_given_state_alone(model: AvsrModel, chunk: AvChunk) -> None:
    _, state = stream(model, cut(chunk, 0, 16), 8, model.init_state(BATCH))
    before = [leaf.clone() for leaf in leaves(state)]
    first, _ = model.step(cut(chunk, 16, 24), state, 8)
    second, _ = model.step(cut(chunk, 16, 24), state, 8)
    assert torch.equal(first.values, second.values)
    assert all(torch.equal(a, b) for a, b in zip(before, leaves(state), strict=True))


@torch.inference_mode()
def test_state_never_grows(model: AvsrModel, chunk: AvChunk) -> None:
    shapes = [leaf.shape for leaf in leaves(model.init_state(BATCH))]
    _, state = stream(model, cut(chunk, 0, 40), 8, model.init_state(BATCH))
    assert [leaf.shape for leaf in leaves(state)] == shapes


@torch.inference_mode()
def test_streams_do_not_see_each_other(model: AvsrModel, chunk: AvChunk) -> None:
    together, _ = stream(model, chunk, 8, model.init_state(BATCH))
    for index in range(BATCH):
        values, _ = stream(model, one_of(chunk, index), 8, model.init_state())
        assert (values[0] - together[index]).abs().max() <= 1e-5


@torch.inference_mode()
def test_streams_of_different_age_share_a_step(model: AvsrModel, chunk: AvChunk) -> None:
    _, older = stream(model, cut(one_of(chunk, 0), 0, 32), 8, model.init_state())
    younger = model.init_state()
    next_chunk = cut(chunk, 32, 40)
    together, states = model.step(next_chunk, stack([older, younger]), 8)
    for index, state in enumerate([older, younger]):
        alone, new_state = model.step(one_of(next_chunk, index), state, 8)
        assert (alone.values[0] - together.values[index]).abs().max() <= 1e-5
        for own, shared in zip(leaves(new_state), leaves(row(states, index)), strict=True):
            torch.testing.assert_close(own, shared, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_padding_never_changes_what_comes_before_it(model: AvsrModel, chunk: AvChunk) -> None:
    valid = torch.ones(BATCH, TICKS, dtype=torch.bool)
    valid[:, 37:] = False
    padded, _ = model.encode(chunk, valid, model.init_state(BATCH, context_ticks=0), model.window(8))
    short, _ = model.encode(cut(chunk, 0, 37), valid[:, :37], model.init_state(BATCH, context_ticks=0), model.window(8))
    torch.testing.assert_close(padded.fused[:, :37], short.fused, atol=1e-5, rtol=1e-5)
