"""A disk that fills up: files of this process do not grow beyond a size."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

NO_ROOM = "File too large"
"""What the system says then."""


@contextmanager
def full_disk(max_bytes: int) -> Iterator[None]:
    """Let writes beyond the first ``max_bytes`` of any file fail (Python ignores the signal that comes with it)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
