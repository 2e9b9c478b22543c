"""Attention kernels for chunked audio-visual streaming. Depends on torch alone (and triton, where a GPU is used).

One folder an operation: ``__init__.py`` holds the public function and its contract, ``reference.py`` the readable
PyTorch implementation, which is also the CPU path.
"""

from avsr_kernels.chunk_attention import KeyValueCache, chunk_attention
from avsr_kernels.gated_cross_attention import FusionCache, gated_cross_attention

__all__ = ["FusionCache", "KeyValueCache", "chunk_attention", "gated_cross_attention"]
