"""Audio-visual fusion: one branch made of two, tick by tick, of several kinds that take and give the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from avsr_kernels import FusionCache, KeyValueCache, gated_cross_attention
from torch import nn

from avsr.config import FusionKind, ModelConfig
from avsr.nn.attention import Window, join_heads, split_heads

SNR_SCALE_DB = 20.0
"""The noise estimate is learned and used in units of this many dB."""
GATE_HIDDEN = 64


@dataclass(frozen=True, slots=True)
class FusionOutput:
    """``fused`` (B, T, dim); ``audio_weight`` (B, T) in [0, 1]; ``snr_db`` (B, T), the estimated SNR of the sound.

    ``audio_weight`` is the sound's share in the mix. Without gates it depends only on what is present: 0.5 with both
    senses, 1 with sound alone, 0 with lips alone or nothing.
    """

    fused: torch.Tensor
    audio_weight: torch.Tensor
    snr_db: torch.Tensor


def make_fusion(config: ModelConfig) -> Fusion:
    """Return the fusion that ``config.fusion`` names.

    The features of an absent sense are never used; ticks without any sense give finite features.
    """
    kinds: dict[FusionKind, type[Fusion]] = {
        "gated": CrossAttentionFusion,
        "ungated": CrossAttentionFusion,
        "fixed": FixedFusion,
        "concat": ConcatFusion,
    }
    return kinds[config.fusion](config)


class CrossAttentionFusion(nn.Module):
    """Each sense attends to the other; the results are added to the features of both.

    With gates, a small network reads both branches, an explicit estimate of the signal-to-noise ratio (trained on the
    known ratio of mixed noise) and which senses are present, and gives each sense's weight; without, both weigh the
    same. The weight of a sense scales its own features and whatever the other sense found in it. Where a sense is
    absent, a learned vector takes its place.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self._num_heads, self._most_left_ticks = config.num_heads, config.fusion_context_ticks
        self.audio_norm, self.video_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.audio_absent, self.video_absent = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.audio_projection = nn.Linear(dim, 3 * dim)
        self.video_projection = nn.Linear(dim, 3 * dim)
        self.snr_head = nn.Linear(dim, 1)
        self.gate = _make_gate(dim) if config.fusion == "gated" else None
        self.project = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def init_state(self, batch: int, context_ticks: int) -> FusionCache:
        """Return an empty past that is up to ``context_ticks`` long (0 saves work for whole utterances)."""
        weight = self.project.weight
        ticks = min(context_ticks, self._most_left_ticks)
        empty = KeyValueCache.empty(batch, self._num_heads, ticks, weight.shape[0] // self._num_heads, like=weight)
        return FusionCache(empty, empty)

    def step(
        self,
        audio: torch.Tensor,
        video: torch.Tensor,
        heard: torch.Tensor,
        visible: torch.Tensor,
        state: FusionCache,
        window: Window,
    ) -> tuple[FusionOutput, FusionCache]:
        """Fuse ``audio`` and ``video`` (B, T, dim); ``heard`` and ``visible`` bool (B, T) are False on absent ticks."""
        audio = torch.where(heard[..., None], self.audio_norm(audio), self.audio_absent)
        video = torch.where(visible[..., None], self.video_norm(video), self.video_absent)
        snr = self.snr_head(audio)
        mixed, weights, state = gated_cross_attention(
            split_heads(self.audio_projection(audio), 3, self._num_heads),  # type: ignore[arg-type]
            split_heads(self.video_projection(video), 3, self._num_heads),  # type: ignore[arg-type]
            self._gate_logits(audio, video, snr, torch.stack([heard, visible], dim=-1)),
            heard,
            visible,
            state,
            chunk_ticks=window.chunk_ticks,
            left_ticks=min(window.left_ticks, self._most_left_ticks),
        )
        fused = weights[..., :1] * audio + weights[..., 1:] * video + self.project(join_heads(mixed))
        return FusionOutput(self.norm(fused), weights[..., 0], SNR_SCALE_DB * snr[..., 0]), state

    def _gate_logits(
        self, audio: torch.Tensor, video: torch.Tensor, snr: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        """Return (B, T, 2), audio first."""
        if self.gate is None:
            return torch.zeros_like(present, dtype=audio.dtype)
        logits: torch.Tensor = self.gate(torch.cat([audio, video, snr.detach(), present.to(audio.dtype)], dim=-1))
        return logits


class TickwiseFusion(nn.Module, ABC):
    """A fusion without a memory: a tick's features depend on that tick alone, and the state stays empty.

    The estimate of the noise is learned all the same, so that every kind trains on the same losses.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.audio_norm, self.video_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.snr_head = nn.Linear(config.dim, 1)
        self.norm = nn.LayerNorm(config.dim)

    def init_state(self, batch: int, context_ticks: int) -> FusionCache:
        """Return a past of no ticks, however long ``context_ticks`` is."""
        empty = KeyValueCache.empty(batch, 1, 0, 1, like=self.norm.weight)
        return FusionCache(empty, empty)

    def step(
        self,
        audio: torch.Tensor,
        video: torch.Tensor,
        heard: torch.Tensor,
        visible: torch.Tensor,
        state: FusionCache,
        window: Window,
    ) -> tuple[FusionOutput, FusionCache]:
        """Do as `CrossAttentionFusion.step`; the state comes back as it was given."""
        audio, video = self.audio_norm(audio), self.video_norm(video)
        present = torch.stack([heard, visible], dim=-1)
        shares = present.to(audio.dtype) / present.sum(dim=-1, keepdim=True).clamp_min(1)
        fused = self.norm(self._mix(audio, video, shares))
        return FusionOutput(fused, shares[..., 0], SNR_SCALE_DB * self.snr_head(audio)[..., 0]), state

    @abstractmethod
    def _mix(self, audio: torch.Tensor, video: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Make one of two (B, T, dim); ``shares`` (B, T, 2) are 0 for an absent sense, else even, and sum to 1 or 0."""


class FixedFusion(TickwiseFusion):
    """A weighted sum with fixed weights: the mean of both senses, or all of the only one."""

    def _mix(self, audio: torch.Tensor, video: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        return shares[..., :1] * audio + shares[..., 1:] * video


class ConcatFusion(TickwiseFusion):
    """Concatenation and a linear map; a learned vector stands for an absent sense."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dim = config.dim
        self.audio_absent, self.video_absent = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.project = nn.Linear(2 * dim, dim)

    def _mix(self, audio: torch.Tensor, video: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        audio = torch.where(shares[..., :1] > 0, audio, self.audio_absent)
        video = torch.where(shares[..., 1:] > 0, video, self.video_absent)
        both: torch.Tensor = self.project(torch.cat([audio, video], dim=-1))
        return both


Fusion = CrossAttentionFusion | TickwiseFusion


def _make_gate(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * dim + 3, GATE_HIDDEN), nn.SiLU(), nn.Linear(GATE_HIDDEN, 2))
