"""Triton's interpreter, made quick enough for a suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> Iterator[None]:
    """Let it not check every sum of integers for overflow, which is most of its work."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    builder = interpreter.interpreter_builder
    before, builder.options = builder.options, dataclasses.replace(builder.options, sanitize_overflow=False)
    yield
    builder.options = before
