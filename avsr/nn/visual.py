"""The lip front end: a causal spatio-temporal stem and a small residual trunk turn each lip crop into a vector."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from avsr.config import ModelConfig
from avsr.types import LIP_SIZE

STEM_TICKS = 3
"""Ticks that the stem sees: the newest and the two before it."""
VIEW_SIZE = 72
"""Side of the middle of the crop that the network looks at, pixels: the lips, the chin and some cheek."""
STEM_STRIDE = 3
GRAY_MEAN, GRAY_STD = 0.45, 0.2
"""Fixed normalisation of gray values in [0, 1]."""

_VIEW = slice((LIP_SIZE - VIEW_SIZE) // 2, (LIP_SIZE + VIEW_SIZE) // 2)


class LipFrontEnd(nn.Module):
    """Maps lip crops to one vector a tick.

    The stem is a convolution over 3 ticks x 7 x 7 pixels, written as a 2-D convolution with the ticks as channels.
    The trunk halves the picture at each of its residual stages. Batch normalisation is frozen outside training, so
    the output depends on nothing but the three pictures. State: the last two pictures, u8 (B, 2, 96, 96).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.lip_channels
        self._dim = config.dim
        self.stem = nn.Sequential(
            nn.Conv2d(STEM_TICKS, channels[0], 7, stride=STEM_STRIDE, padding=2, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.SiLU(),
        )
        self.trunk = nn.Sequential(*(ResidualStage(before, after) for before, after in pairwise(channels)))
        side = VIEW_SIZE // STEM_STRIDE
        for _ in channels[1:]:
            side = (side + 1) // 2
        self.project = nn.Sequential(nn.Linear(channels[-1] * side * side, config.dim), nn.LayerNorm(config.dim))

    def init_state(self, batch: int) -> torch.Tensor:
        """Return a dark past."""
        device = next(self.parameters()).device
        return torch.zeros(batch, STEM_TICKS - 1, LIP_SIZE, LIP_SIZE, dtype=torch.uint8, device=device)

    def step(self, lips: torch.Tensor, visible: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn ``lips`` u8 (B, T, 96, 96) into (B, T, dim), zeros where not ``visible``."""
        joined = torch.cat([state, lips], dim=1)
        pixels = joined[..., _VIEW, _VIEW].to(self.project.get_parameter("0.weight").dtype)
        stacks = ((pixels / 255 - GRAY_MEAN) / GRAY_STD).unfold(1, STEM_TICKS, 1).permute(0, 1, 4, 2, 3)
        if not self.training and (_picking_waits(visible) or visible.all()):
            y = self._embed(stacks.flatten(0, 1)).view(*visible.shape, self._dim) * visible[..., None]
        else:  # ticks that are not visible cost nothing, and never enter the statistics of batch normalisation
            y = self.project.get_parameter("0.weight").new_zeros(*visible.shape, self._dim)
            seen = stacks[visible]
            if len(seen):
                y = y.masked_scatter(visible[..., None], self._embed(seen))
        return y, joined[:, joined.shape[1] - STEM_TICKS + 1 :]

    def _embed(self, stacks: torch.Tensor) -> torch.Tensor:
        """Map normalised pictures (N, 3, VIEW_SIZE, VIEW_SIZE) to (N, dim)."""
        y: torch.Tensor = self.project(self.trunk(self.stem(stacks)).flatten(1))
        return y


def _picking_waits(mask: torch.Tensor) -> bool:
    """Whether picking elements by this mask waits for the GPU to count them, which a captured CUDA graph cannot do."""
    return mask.is_cuda


class ResidualStage(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, around a strided 1x1 shortcut (He et al. 2016, type B)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in, S, S) to (N, out, S/2, S/2)."""
        y = F.silu(self.first_norm(self.first(x)))
        return F.silu(self.second_norm(self.second(y)) + self.shortcut_norm(self.shortcut(x)))
