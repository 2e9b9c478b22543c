"""Which implementation attends never shows in the captions."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_ins import tiny_recognizer

pytest.importorskip("triton")


def test_kernels_never_change_captions_of_a_real_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    recognizer = tiny_recognizer(tmp_path / "tiny")
    clip = shared_data / "grid" / "s1" / "bbaf3s.mp4"

    def captions(implementation: str) -> list[tuple[str, float, float]]:
        monkeypatch.setenv("AVSR_KERNELS", implementation)
        return [(word.text, word.start_s, word.end_s) for word in recognizer.transcribe(clip, chunk_ms=640).words]

    expected = captions("reference")
    assert expected
    assert captions("triton") == expected
