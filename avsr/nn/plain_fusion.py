"""Fusion that looks at one tick at a time and weighs nothing, and the choice among all kinds of fusion."""

from __future__ import annotations

from abc import abstractmethod

import torch
from avsr_kernels import FusionCache, KeyValueCache
from torch import nn

from avsr.config import FusionKind, ModelConfig
from avsr.nn.attention import Window
from avsr.nn.fusion import SNR_SCALE_DB, CrossAttentionFusion, Fusion, FusionOutput


def make_fusion(config: ModelConfig) -> Fusion:
    """Return the fusion that ``config.fusion`` names."""
    kinds: dict[FusionKind, type[CrossAttentionFusion | TickwiseFusion]] = {
        "gated": CrossAttentionFusion,
        "ungated": CrossAttentionFusion,
        "fixed": FixedFusion,
        "concat": ConcatFusion,
    }
    return kinds[config.fusion](config)


class TickwiseFusion(Fusion):
    """A fusion without a memory: a tick's features depend on that tick alone, and the state stays empty.

    The estimate of the noise is learned all the same, so that every kind trains on the same losses.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._num_heads = config.num_heads
        self.audio_norm, self.video_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.snr_head = nn.Linear(config.dim, 1)
        self.norm = nn.LayerNorm(config.dim)

    def init_state(self, batch: int, context_ticks: int) -> FusionCache:
        """Return a past of no ticks, however long ``context_ticks`` is."""
        weight = self.norm.weight
        empty = KeyValueCache.empty(batch, self._num_heads, 0, weight.shape[0] // self._num_heads, like=weight)
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
        """See `Fusion.step`; the state comes back as it was given."""
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
