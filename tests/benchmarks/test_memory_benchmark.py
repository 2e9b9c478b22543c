"""What cannot be measured is refused before the measuring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import memory


@pytest.mark.parametrize(("minutes", "warm_up"), [("0.2", "0.1"), ("60", "59.5"), ("1", "1")])
def test_without_a_reading_after_the_warm_up_nothing_is_begun(
    minutes: str, warm_up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["memory.py", "--minutes", minutes, "--warm-up", warm_up])
    monkeypatch.setattr(memory, "load_model", lambda *_, **__: pytest.fail("it was begun"))
    with pytest.raises(SystemExit, match="2"):
        memory.main()
