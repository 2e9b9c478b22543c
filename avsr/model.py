"""The network: two causal encoders, their fusion, a fused encoder and CTC heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from avsr_kernels import FusionCache
from torch import nn

from avsr.config import ModelConfig
from avsr.nn.attention import Window
from avsr.nn.audio import AudioFrontEnd
from avsr.nn.conformer import BlockState, Conformer
from avsr.nn.fusion import FusionOutput, make_fusion
from avsr.nn.visual import LipFrontEnd
from avsr.types import AvChunk, LogProbs


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the network remembers of its streams, bounded in size; every tensor's first axis is the batch."""

    audio_front: tuple[torch.Tensor, ...]
    audio: tuple[BlockState, ...]
    video_front: torch.Tensor
    video: tuple[BlockState, ...]
    fusion: FusionCache
    fused: tuple[BlockState, ...]


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Output of `AvsrModel.encode`: features (B, T, dim) of every branch, and the fusion's own outputs."""

    audio: torch.Tensor
    video: torch.Tensor
    fused: torch.Tensor
    fusion: FusionOutput


class AvsrModel(nn.Module):
    """Streaming audio-visual CTC model.

    ``step`` serves live streams (one chunk at a time) and whole utterances (any number of chunks at once); since both
    are the same code over the same masks, they cannot disagree. A call must begin on a chunk boundary of the stream.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_front = AudioFrontEnd(config)
        self.audio_encoder = Conformer(config, config.num_audio_layers)
        self.video_front = LipFrontEnd(config)
        self.video_encoder = Conformer(config, config.num_video_layers)
        self.fusion = make_fusion(config)
        self.fused_encoder = Conformer(config, config.num_fusion_layers)
        self.audio_head = nn.Linear(config.dim, config.vocab_size)
        self.video_head = nn.Linear(config.dim, config.vocab_size)
        self.fused_head = nn.Linear(config.dim, config.vocab_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.fused_head.weight.device

    def window(self, chunk_ticks: int) -> Window:
        """Return what attention sees in streams with such chunks, with the model's full left context."""
        return Window(chunk_ticks, self.config.left_context_ticks)

    def init_state(self, batch: int = 1, context_ticks: int | None = None) -> ModelState:
        """Return the state of ``batch`` streams that have not begun.

        ``context_ticks`` is the length of the empty left context: all of it by default, so that the state's shapes
        never change; 0 saves work where whole utterances are passed at once.
        """
        ticks = self.config.left_context_ticks if context_ticks is None else context_ticks
        return ModelState(
            audio_front=self.audio_front.init_state(batch),
            audio=self.audio_encoder.init_state(batch, ticks),
            video_front=self.video_front.init_state(batch),
            video=self.video_encoder.init_state(batch, ticks),
            fusion=self.fusion.init_state(batch, ticks),
            fused=self.fused_encoder.init_state(batch, ticks),
        )

    def step(self, chunk: AvChunk, state: ModelState, chunk_ticks: int) -> tuple[LogProbs, ModelState]:
        """Turn B streams' next T ticks into CTC log-probabilities (B, T, V).

        ``chunk.start_tick`` must be a multiple of ``chunk_ticks``. T is usually ``chunk_ticks``; it may be shorter for
        the last chunk of a stream, or many chunks at once.
        """
        valid = torch.ones_like(chunk.heard)
        output, state = self.encode(chunk, valid, state, self.window(chunk_ticks))
        values = self.fused_head(output.fused).log_softmax(dim=-1)
        return LogProbs(values, output.fusion.audio_weight, chunk.start_tick), state

    def encode(
        self, chunk: AvChunk, valid: torch.Tensor, state: ModelState, window: Window
    ) -> tuple[ModelOutput, ModelState]:
        """Run every branch; ``valid`` bool (B, T) is False on padding behind the end of an utterance.

        ``window`` is what attention sees; its left context is at most the model's own.
        """
        audio, audio_front, audio_state = self.encode_audio(chunk, valid, state, window)
        video, video_front, video_state = self.encode_video(chunk, valid, state, window)
        fusion, fusion_state = self.fusion.step(
            audio, video, chunk.heard & valid, chunk.visible & valid, state.fusion, window
        )
        fused, fused_state = self.fused_encoder.step(fusion.fused, valid, state.fused, window)
        return ModelOutput(audio, video, fused, fusion), ModelState(
            audio_front, audio_state, video_front, video_state, fusion_state, fused_state
        )

    def encode_audio(
        self, chunk: AvChunk, valid: torch.Tensor, state: ModelState, window: Window
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], tuple[BlockState, ...]]:
        """Run the audio branch: features (B, T, dim) and its two new states."""
        x, front = self.audio_front.step(chunk.mel, state.audio_front)
        x, blocks = self.audio_encoder.step(x * chunk.heard[..., None], valid, state.audio, window)
        return x, front, blocks

    def encode_video(
        self, chunk: AvChunk, valid: torch.Tensor, state: ModelState, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[BlockState, ...]]:
        """Run the lip branch: features (B, T, dim) and its two new states."""
        x, front = self.video_front.step(chunk.lips, chunk.visible & valid, state.video_front)
        x, blocks = self.video_encoder.step(x, valid, state.video, window)
        return x, front, blocks
