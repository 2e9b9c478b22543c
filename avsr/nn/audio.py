"""The audio front end: four log-mel frames become one tick."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avsr.config import ModelConfig
from avsr.nn.convolution import CausalConv1d
from avsr.types import NUM_MELS


class AudioFrontEnd(nn.Module):
    """Three causal convolutions over time, the last two of stride 2.

    State: the left contexts of the three convolutions.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.convs = nn.ModuleList(
            [
                CausalConv1d(NUM_MELS, dim, kernel=3),
                CausalConv1d(dim, dim, kernel=4, stride=2),
                CausalConv1d(dim, dim, kernel=4, stride=2),
            ]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.convs)
        self.project = nn.Linear(dim, dim)

    def init_state(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Return a silent past."""
        return tuple(conv.init_state(batch) for conv in self._convs())

    def step(self, mel: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Turn ``mel`` f32 (B, 4T, 80) into ticks (B, T, dim)."""
        x, states = mel, []
        for conv, norm, conv_state in zip(self._convs(), self.norms, state, strict=True):
            x, conv_state = conv.step(x, conv_state)
            x = F.silu(norm(x))
            states.append(conv_state)
        return self.project(x), tuple(states)

    def _convs(self) -> list[CausalConv1d]:
        return [conv for conv in self.convs if isinstance(conv, CausalConv1d)]
