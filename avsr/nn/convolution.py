"""Causal convolutions over time, with the left context carried from call to call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class CausalConv1d(nn.Module):
    """1-D convolution whose output never looks right.

    With stride s, output i covers the inputs up to and including ``s (i + 1) - 1``, so a whole tick of inputs gives
    whole outputs. State: the last ``kernel - stride`` inputs, (B, kernel - stride, channels), zeros at first.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self._channels, self._context = in_channels, kernel - stride
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride=stride, groups=groups)

    def init_state(self, batch: int) -> torch.Tensor:
        """Return a silent past."""
        return self.conv.weight.new_zeros(batch, self._context, self._channels)

    def step(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convolve ``x`` (B, T, in) into (B, T / stride, out)."""
        joined = torch.cat([state, x], dim=1)
        y: torch.Tensor = self.conv(joined.transpose(1, 2)).transpose(1, 2)
        return y, joined[:, joined.shape[1] - self._context :]


class ConvModule(nn.Module):
    """The conformer's convolution module (Gulati et al. 2020, fig. 2), causal, with LayerNorm for batch statistics.

    State: that of the depthwise convolution.
    """

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = CausalConv1d(dim, dim, kernel, groups=dim)
        self.inner_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def init_state(self, batch: int) -> torch.Tensor:
        """Return a silent past, (B, kernel - 1, dim)."""
        return self.depthwise.init_state(batch)

    def step(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``x`` (B, T, dim) to the same shape; the residual is the caller's."""
        y = F.glu(self.expand(self.norm(x)), dim=-1)
        y, state = self.depthwise.step(y, state)
        return self.dropout(self.project(F.silu(self.inner_norm(y)))), state
