"""A server that falls silent holds no stream; the benchmark says so."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("websockets", reason="pip install 'avsr[serve]'")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import serve


def test_without_a_report_no_stream_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hear_nothing(client: serve.LiveClient, url: str, delay_s: float) -> None:
        client.chunk_ms = 320

    monkeypatch.setattr(serve.LiveClient, "run", hear_nothing)
    served = SimpleNamespace(url="", processor_s=lambda: 0.0)
    row = asyncio.run(serve.measure(served, 2, np.zeros((0, 640), np.int16), [], 20.0))
    assert not row.is_held
