"""Gated audio-visual fusion: each sense asks the other, and gates weigh both by the evidence of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from avsr_kernels import FusionCache, KeyValueCache, gated_cross_attention
from torch import nn

from avsr.config import ModelConfig
from avsr.nn.attention import join_heads, split_heads

SNR_SCALE_DB = 20.0
"""The noise estimate is learned and used in units of this many dB."""
GATE_HIDDEN = 64


@dataclass(frozen=True, slots=True)
class FusionOutput:
    """``fused`` (B, T, dim); ``audio_weight`` (B, T) in [0, 1]; ``snr_db`` (B, T), the estimated SNR of the sound."""

    fused: torch.Tensor
    audio_weight: torch.Tensor
    snr_db: torch.Tensor


class GatedFusion(nn.Module):
    """Fuses the two branches tick by tick.

    A small network reads both branches, an explicit estimate of the signal-to-noise ratio (trained on the known ratio
    of mixed noise) and which senses are present, and gives each sense's weight. The weight of a sense scales its own
    features and whatever the other sense found in it. Where a sense is absent, a learned vector asks in its place.
    State: ``FusionCache``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self._num_heads, self._left_ticks = config.num_heads, config.fusion_context_ticks
        self.audio_norm, self.video_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.audio_absent, self.video_absent = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.audio_projection = nn.Linear(dim, 3 * dim)
        self.video_projection = nn.Linear(dim, 3 * dim)
        self.snr_head = nn.Linear(dim, 1)
        self.gate = nn.Sequential(nn.Linear(2 * dim + 3, GATE_HIDDEN), nn.SiLU(), nn.Linear(GATE_HIDDEN, 2))
        self.project = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def init_state(self, batch: int, context_ticks: int) -> FusionCache:
        """Return an empty past that is ``context_ticks`` long (0 saves work for whole utterances)."""
        weight = self.project.weight
        ticks = min(context_ticks, self._left_ticks)
        empty = KeyValueCache.empty(batch, self._num_heads, ticks, weight.shape[0] // self._num_heads, like=weight)
        return FusionCache(empty, empty)

    def step(
        self,
        audio: torch.Tensor,
        video: torch.Tensor,
        heard: torch.Tensor,
        visible: torch.Tensor,
        state: FusionCache,
        chunk_ticks: int,
    ) -> tuple[FusionOutput, FusionCache]:
        """Fuse ``audio`` and ``video`` (B, T, dim); ``heard`` and ``visible`` bool (B, T) are False on absent ticks."""
        audio = torch.where(heard[..., None], self.audio_norm(audio), self.audio_absent)
        video = torch.where(visible[..., None], self.video_norm(video), self.video_absent)
        snr = self.snr_head(audio)
        present = torch.stack([heard, visible], dim=-1)
        logits = self.gate(torch.cat([audio, video, snr.detach(), present.to(audio.dtype)], dim=-1))
        mixed, weights, state = gated_cross_attention(
            split_heads(self.audio_projection(audio), 3, self._num_heads),  # type: ignore[arg-type]
            split_heads(self.video_projection(video), 3, self._num_heads),  # type: ignore[arg-type]
            logits,
            heard,
            visible,
            state,
            chunk_ticks=chunk_ticks,
            left_ticks=self._left_ticks,
        )
        fused = weights[..., :1] * audio + weights[..., 1:] * video + self.project(join_heads(mixed))
        return FusionOutput(self.norm(fused), weights[..., 0], SNR_SCALE_DB * snr[..., 0]), state
