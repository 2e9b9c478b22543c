"""Which implementation attends never shows in the captions."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("pydantic")  # kernels are tested where what avsr needs besides is not installed, too
pytest.importorskip("av")

from avsr_kernels.chunk_attention import operator
from stand_ins import LampFace, listen, packets_of, pictures, sound, tiny_recognizer

import avsr


def test_kernels_never_change_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_recognizer(tmp_path / "tiny")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recognizer = avsr.load_model(tmp_path / "tiny", device=device)
    packets = packets_of(sound(1.28), pictures(1.28))

    def captions(implementation: str) -> list[tuple[str, float, float]]:
        monkeypatch.setenv("AVSR_KERNELS", implementation)
        heard = listen(recognizer.stream(chunk_ms=640, landmarker=LampFace()), packets)
        return [(word.text, word.start_s, word.end_s) for caption in heard.finals for word in caption.words]

    expected = captions("reference")
    assert len(expected) >= 3
    with mock.patch.object(operator, "check_window", wraps=operator.check_window) as launched:
        assert captions("triton") == expected
    assert launched.called
