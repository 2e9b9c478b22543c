"""Which implementation attends never shows in the captions."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from stand_ins import tiny_recognizer

import avsr

pytest.importorskip("triton")

from avsr_kernels.chunk_attention import operator


def test_kernels_never_change_captions_of_a_real_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    tiny_recognizer(tmp_path / "tiny")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recognizer = avsr.load_model(tmp_path / "tiny", device=device)
    clip = shared_data / "grid" / "s1" / "bbaf3s.mp4"

    def captions(implementation: str) -> list[tuple[str, float, float]]:
        monkeypatch.setenv("AVSR_KERNELS", implementation)
        return [(word.text, word.start_s, word.end_s) for word in recognizer.transcribe(clip, chunk_ms=640).words]

    expected = captions("reference")
    assert expected
    with mock.patch.object(operator, "check_window", wraps=operator.check_window) as launched:
        assert captions("triton") == expected
    assert launched.called
