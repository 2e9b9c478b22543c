"""What is installed: files that are no modules come along only where pyproject.toml names them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("package", "where"), [("avsr", "avsr"), ("avsr_kernels", "kernels/avsr_kernels")])
def test_every_file_of_a_package_is_installed_with_it(package: str, where: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"][package]
    named = {path for pattern in patterns for path in (ROOT / where).glob(pattern)}
    files = {path for path in (ROOT / where).rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert {path for path in files - named if path.suffix != ".py" and path.name[0] != "."} == set()
