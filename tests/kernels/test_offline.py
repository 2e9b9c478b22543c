"""The kernels as a GPU would have them, compiled without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
import dataclasses, json, sys, torch
import avsr_kernels
assert "triton" not in sys.modules
from avsr_kernels.offline import compile_all
found = compile_all(48, torch.float16, 8, gradients=True) + compile_all(64, torch.bfloat16, 64, gradients=False)
found += compile_all(48, torch.float16, 8, gradients=False, capability=120)
print(json.dumps([dataclasses.asdict(resources) for resources in found]))
"""


def test_the_package_imports_no_triton_and_the_kernels_of_the_default_model_spill_no_registers() -> None:
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=110
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    forward = ["chunk_attention_kernel", "gated_cross_attention_kernel"]
    backward = ["query_gradient_kernel", "key_gradient_kernel"]
    assert [kernel["kernel"] for kernel in found] == forward + backward + forward + forward
    for kernel in found:
        assert 0 < kernel["registers"] < 256
        assert kernel["spilled_bytes"] == kernel["stack_bytes"] == 0, kernel
