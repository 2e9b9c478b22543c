"""Triton's interpreter, made quick enough for a suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> Iterator[None]:
    """Spare it most of its work, which here is for nothing.

    It checks every sum of integers for overflow, and at every call of our device functions it replaces all functions of
    ``triton.language`` anew, which the launch of the kernel has done already.
    """
    try:
        from triton.runtime import interpreter
    except ImportError:  # where there is no Triton, the reference is tested alone
        yield
        return

    call_slowly = interpreter.InterpretedFunction.__call__

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        if self.fn.__module__.startswith("avsr_kernels"):
            return self.rewrite()(*arguments, **named)
        return call_slowly(self, *arguments, **named)

    builder = interpreter.interpreter_builder
    options = dataclasses.replace(builder.options, sanitize_overflow=False)
    with (
        mock.patch.object(builder, "options", options),
        mock.patch.object(interpreter.InterpretedFunction, "__call__", call),
    ):
        yield
