"""Prepared corpora: what was written is what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avsr.corpora import AlignedWord
from avsr.errors import InputError
from avsr.train.prepared import Clip, ClipData, PreparedCorpus, write_prepared
from avsr.types import LIP_SIZE, TICK_SAMPLES


def some_data(num_ticks: int, seed: int) -> ClipData:
    rng = np.random.default_rng(seed)
    return ClipData(
        rng.uniform(-1, 1, num_ticks * TICK_SAMPLES).astype(np.float32),
        rng.integers(0, 256, (num_ticks, LIP_SIZE, LIP_SIZE)).astype(np.uint8),
        rng.random(num_ticks) < 0.5,
    )


def test_clips_and_their_data_come_back(tmp_path: Path) -> None:
    words = (AlignedWord("né", 0.1, 0.2), AlignedWord("'s", 0.2, 0.3))
    clips = [Clip("a.mp4", "s1", "train", "né 's", words, 0, 0), Clip("b.mp4", "s2", "dev", "", (), 0, 0)]
    data = [some_data(7, 1), some_data(3, 2)]
    write_prepared(tmp_path / "new", clips, data)
    corpus = PreparedCorpus(tmp_path / "new")
    assert corpus.clips == (
        replace(clips[0], start_tick=0, num_ticks=7),
        replace(clips[1], start_tick=7, num_ticks=3),
    )
    assert corpus.select("dev", "test") == [corpus.clips[1]]
    for clip, written in zip(corpus.clips, data, strict=True):
        read = corpus.load(clip)
        assert np.abs(read.audio - written.audio).max() <= 0.5 / 32767 + 1e-7
        assert np.array_equal(read.lips, written.lips)
        assert np.array_equal(read.visible, written.visible)


def test_sound_outside_full_scale_is_clipped_not_wrapped(tmp_path: Path) -> None:
    loud = replace(some_data(1, 1), audio=np.linspace(-3, 3, TICK_SAMPLES, dtype=np.float32))
    write_prepared(tmp_path, [Clip("a.mp4", "s1", "train", "", (), 0, 0)], [loud])
    corpus = PreparedCorpus(tmp_path)
    audio = corpus.load(corpus.clips[0]).audio
    assert np.abs(audio - loud.audio.clip(-1, 1)).max() <= 0.5 / 32767 + 1e-7


def test_a_directory_that_is_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepared"):
        PreparedCorpus(tmp_path)
