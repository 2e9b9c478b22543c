"""One JSON object a line on stderr. Recognised text is logged only if the user asked for it."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import suppress

_lock = threading.Lock()


def log(event: str, **details: str | float | bool | None) -> None:
    """Write ``event`` and its details, with the time; errors of writing, as on a full disk, are ignored."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
    line = json.dumps({"time": stamp, "event": event, **details}, ensure_ascii=False)
    with _lock, suppress(OSError, ValueError):  # ValueError: closed
        print(line, file=sys.stderr, flush=True)
