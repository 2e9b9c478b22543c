"""Causal, chunked conformer blocks (Gulati et al. 2020, "Conformer")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from avsr_kernels import KeyValueCache
from torch import nn

from avsr.config import ModelConfig
from avsr.nn.attention import ChunkSelfAttention, Window
from avsr.nn.convolution import ConvModule


@dataclass(frozen=True, slots=True)
class BlockState:
    """What a block remembers: the attention's left context and the convolution's."""

    attention: KeyValueCache
    convolution: torch.Tensor


class FeedForward(nn.Module):
    """The half-step feed-forward module: LayerNorm, expand, SiLU, project."""

    def __init__(self, dim: int, mult: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, mult * dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(mult * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., dim) to the same shape; the residual is the caller's."""
        y: torch.Tensor = self.layers(x)
        return y


class ConformerBlock(nn.Module):
    """Half feed-forward, chunked self-attention, causal convolution, half feed-forward, LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.first = FeedForward(config.dim, config.ff_mult, config.dropout)
        self.attention = ChunkSelfAttention(config.dim, config.num_heads, config.dropout)
        self.convolution = ConvModule(config.dim, config.conv_kernel, config.dropout)
        self.second = FeedForward(config.dim, config.ff_mult, config.dropout)
        self.norm = nn.LayerNorm(config.dim)

    def init_state(self, batch: int, context_ticks: int) -> BlockState:
        """Return an empty past."""
        return BlockState(self.attention.init_state(batch, context_ticks), self.convolution.init_state(batch))

    def step(
        self, x: torch.Tensor, mask: torch.Tensor, state: BlockState, window: Window
    ) -> tuple[torch.Tensor, BlockState]:
        """Map ``x`` (B, T, dim) to the same shape; ``mask`` bool (B, T) hides padding from attention."""
        x = x + 0.5 * self.first(x)
        y, attention = self.attention.step(x, mask, state.attention, window)
        x = x + y
        y, convolution = self.convolution.step(x, state.convolution)
        x = x + y
        x = x + 0.5 * self.second(x)
        return self.norm(x), BlockState(attention, convolution)


class Conformer(nn.Module):
    """A stack of conformer blocks. State: one ``BlockState`` a block."""

    def __init__(self, config: ModelConfig, num_layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(num_layers))

    def init_state(self, batch: int, context_ticks: int) -> tuple[BlockState, ...]:
        """Return an empty past."""
        return tuple(block.init_state(batch, context_ticks) for block in self._blocks())

    def step(
        self, x: torch.Tensor, mask: torch.Tensor, state: tuple[BlockState, ...], window: Window
    ) -> tuple[torch.Tensor, tuple[BlockState, ...]]:
        """Map ``x`` (B, T, dim) to the same shape."""
        states = []
        for block, block_state in zip(self._blocks(), state, strict=True):
            x, block_state = block.step(x, mask, block_state, window)
            states.append(block_state)
        return x, tuple(states)

    def _blocks(self) -> list[ConformerBlock]:
        return [block for block in self.blocks if isinstance(block, ConformerBlock)]
