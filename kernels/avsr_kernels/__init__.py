"""Attention kernels for chunked audio-visual streaming. Depends on torch alone, and on triton where a GPU is used.

One folder an operation: ``__init__.py`` holds the public function and its contract, ``reference.py`` the readable
PyTorch implementation, which is also the CPU path, ``triton.py`` the fused kernels and ``operator.py`` their
registration with PyTorch. ``dispatch.py`` chooses.
"""

from avsr_kernels.cache import FusionCache, KeyValueCache
from avsr_kernels.chunk_attention import chunk_attention
from avsr_kernels.dispatch import KernelsUnavailableError, check_kernels
from avsr_kernels.gated_cross_attention import gated_cross_attention

__all__ = [
    "FusionCache",
    "KernelsUnavailableError",
    "KeyValueCache",
    "check_kernels",
    "chunk_attention",
    "gated_cross_attention",
]
