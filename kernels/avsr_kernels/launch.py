"""How the kernels are launched: memory layouts, padded sizes and tiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avsr_kernels.cache import KeyValueCache

NARROW = 64
"""Head dimensions up to this one leave registers for larger tiles."""
SMALLEST_TILE = 16
"""Matrix units take no tile with a shorter side."""


def forward_tiles(num_ticks: int, head_dim: int, dtype: torch.dtype) -> dict[str, int]:
    """Return a forward kernel's compile-time sizes for ``num_ticks`` new ticks: tiles, warps and pipeline stages.

    New keys, which must be turned, come in small tiles; cached ones, which a step has more of, in larger ones. The
    sizes spill no registers for the default model, and a few bytes at most elsewhere (``avsr_kernels.offline``).
    """
    rows = next(size for size in (16, 32, 64) if size >= min(num_ticks, 64))
    columns, warps = (64, 4) if head_dim <= NARROW else (32, 8)
    if dtype == torch.float32:  # three products for one: three times the registers
        rows, columns = 16, 32
    return _width(head_dim) | {
        "BLOCK_M": rows, "BLOCK_N": columns, "BLOCK_NEW": min(rows, 32), "num_warps": warps, "num_stages": 2
    }  # fmt: skip


def backward_tiles(head_dim: int, dtype: torch.dtype) -> dict[str, int]:
    """Return a backward kernel's compile-time sizes."""
    rows, columns, warps = (64, 64, 4) if head_dim <= NARROW else (64, 32, 8)
    if dtype == torch.float32:
        rows, columns = 16, 16
    return _width(head_dim) | {"BLOCK_M": rows, "BLOCK_N": columns, "num_warps": warps, "num_stages": 2}


def _width(head_dim: int) -> dict[str, int]:
    half = padded(head_dim // 2)
    return {"D": head_dim, "HALF": half, "WIDTH": 2 * half}


def check_window(
    query: torch.Tensor, others: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], caches: Sequence[KeyValueCache],
    chunk_ticks: int, left_ticks: int,
) -> None:  # fmt: skip
    """Refuse arguments for which a kernel would read or write out of bounds.

    Raises:
        ValueError: ``others`` are not as ``query`` (B, H, T, D), ``masks`` are not (B, T), ``caches`` do not fit or are
            not equally long, T is 0 or the chunk is.
    """
    batch, num_heads, num_ticks, head_dim = query.shape
    if num_ticks < 1 or chunk_ticks < 1 or left_ticks < 0:
        raise ValueError(f"{num_ticks} ticks, chunks of {chunk_ticks}, {left_ticks} before: needed are 1, 1 and 0")
    num_cached = caches[0].mask.shape[1]
    for wanted, tensors in (
        (query.shape, others),
        ((batch, num_ticks), masks),
        ((batch, num_heads, num_cached, head_dim), [tensor for cache in caches for tensor in (cache.key, cache.value)]),
        ((batch, num_cached), [cache.mask for cache in caches]),
        ((batch,), [cache.next_tick for cache in caches]),
    ):
        for tensor in tensors:
            if tensor.shape != torch.Size(wanted) or tensor.device != query.device:
                raise ValueError(
                    f"queries are {tuple(query.shape)} on {query.device}: {tuple(wanted)} was expected there, not"
                    f" {tuple(tensor.shape)} on {tensor.device}"
                )


def window_sizes(num_ticks: int, num_cached: int, chunk_ticks: int, left_ticks: int) -> tuple[int, int]:
    """Return chunk and left context, limited to what there is: so any number may mean "all", and none overflows."""
    return min(chunk_ticks, num_ticks), min(left_ticks, num_cached + num_ticks)


def padded(size: int) -> int:
    """Return the side of the tile that holds ``size`` elements."""
    return max(SMALLEST_TILE, 1 << (size - 1).bit_length())


def alike(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors (B, H, T, D) with the same strides and dense rows; copies only what is not so already."""
    strides = tensors[0].stride()
    if strides[-1] == 1 and all(tensor.stride() == strides for tensor in tensors):
        return tensors
    return tuple(heads_inside(tensor) for tensor in tensors)


def heads_inside(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` (B, H, T, D) laid out in memory as (B, T, H, D), so that joining its heads costs nothing."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def empty_heads_inside(like: torch.Tensor) -> torch.Tensor:
    """Return an unwritten tensor of the shape of ``like``, laid out as by ``heads_inside``."""
    batch, num_heads, num_ticks, head_dim = like.shape
    return torch.empty(batch, num_ticks, num_heads, head_dim, dtype=like.dtype, device=like.device).transpose(1, 2)
