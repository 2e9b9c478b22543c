"""The learning curve: larger shares contain smaller ones, and no curve resumes from another one's results."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from avsr.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def curve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("learning_curve")


def test_larger_shares_contain_the_smaller_ones(curve: ModuleType) -> None:
    spoken = SimpleNamespace(select=lambda split: list(range(101)))
    chosen = [set(curve.choose(spoken, share)) for share in curve.SHARES]
    assert [len(clips) for clips in chosen] == [13, 25, 50, 101]
    assert all(less < more for less, more in pairwise(chosen))
    assert curve.choose(spoken, 0.5) == curve.choose(spoken, 0.5)


def test_a_curve_resumes_but_not_with_other_settings(curve: ModuleType, tmp_path: Path) -> None:
    setting, work = curve.Setting("default 0.2", 18, 100, 90), tmp_path / "curve"
    for _ in range(2):
        curve.claim(work, setting)
    for other in ({"start": "default 0.3"}, {"times_heard": 3}, {"num_clips": 99}, {"num_timed": 0}):
        with pytest.raises(InputError, match=r"another curve.*--work"):
            curve.claim(work, replace(setting, **other))


def test_the_figures_say_what_they_were_made_with(curve: ModuleType, tmp_path: Path) -> None:
    rates = curve.Rates(0.5, 0.8, 0.45, 0.7), curve.Rates(0.25, 0.4, 0.2, 0.3)
    points = [curve.Point(hours, 5, *rates) for hours in (0.5, 1.0)]
    curve.write(points, curve.Setting("default 0.2", 18, 100, 90), tmp_path)
    saved = json.loads((tmp_path / "curve.json").read_text())
    assert (saved["start"], saved["times_heard"], len(saved["points"])) == ("default 0.2", 18, 2)
    assert "| 0.50 | 5 | 50.0% | 80.0% | 70.0% | 25.0% | 40.0% | 30.0% |" in (tmp_path / "curve.md").read_text()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
