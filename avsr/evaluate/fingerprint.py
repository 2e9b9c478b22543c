"""Hashes of files and their metadata, to notice changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PIECE_BYTES = 1 << 20


def fingerprint(metadata: Any, paths: Iterable[Path]) -> str:
    """Return a hash of ``metadata``, any JSON value, and of the content of the files.

    Raises:
        OSError: a file cannot be read.
    """
    whole = hashlib.sha256(json.dumps(metadata).encode())
    for path in paths:
        content = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                content.update(piece)
        whole.update(content.digest())
    return whole.hexdigest()[:16]
