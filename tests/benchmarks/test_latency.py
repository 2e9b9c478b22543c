"""The latencies that are printed are those of the captions that came."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from stand_ins import LampFace, pictures, sound, tiny_recognizer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import latency


def test_a_short_programme_is_timed(tmp_path: Path) -> None:
    onset_s = 1.0
    silence = np.zeros(round(onset_s * 16_000), np.float32)
    samples = np.concatenate([silence, sound(2.0), silence])
    shown = tuple((frame.pts_us / 1e6, frame.rgb) for frame in pictures(4.0))
    programme = latency.Program(samples, shown, (onset_s,))
    with tiny_recognizer(tmp_path / "tiny").stream(landmarker=LampFace(), patience_s=1.0) as stream:
        figures = latency.play(programme, stream, 320)
    assert [figure.name for figure in figures] == list(latency.TARGETS_MS)
    assert figures[2].num_measured >= 10
    assert 0 < figures[2].p50_ms <= figures[2].p99_ms
    for figure in figures[:2]:
        assert figure.num_measured >= 1
        assert -320 <= figure.p50_ms < 20_000


def test_a_clip_is_read_with_its_onset() -> None:
    programme = latency.read_program([(latency.DEMO_CLIP, 0.0)] * 2)
    first_s, second_s = programme.onsets_s
    assert 0.1 < first_s < 1.5
    assert programme.duration_s / 2 == pytest.approx(second_s - first_s, abs=0.05)
    times = [time_s for time_s, _ in programme.pictures]
    assert times == sorted(times)


def test_what_is_loud_before_the_first_word_of_a_table_is_not_its_onset(tmp_path: Path) -> None:
    clip = tmp_path / latency.DEMO_CLIP.name
    shutil.copy(latency.DEMO_CLIP, clip)
    rows = [f"{clip.name}\ts1\t{split}\t3.0\tnow\tnow:0.9-1.2" for split in ("test", "dev", "test")]
    table = tmp_path / "corpus.tsv"
    table.write_text("\n".join(["path\tspeaker\tsplit\tseconds\ttext\twords", *rows]) + "\n", encoding="utf-8")
    assert latency.list_clips([latency.DEMO_CLIP, table], "test", 12) == [
        (latency.DEMO_CLIP, 0.0),
        *[(clip, pytest.approx(0.9 - latency.SLACK_S))] * 2,
    ]
    assert len(latency.list_clips([table], "test", 1)) == 1
    (onset_s,) = latency.read_program([(clip, 0.8)]).onsets_s
    assert onset_s >= 0.8
    with pytest.raises(SystemExit, match="no clips of the split 'tset'"):
        latency.list_clips([table], "tset", 12)


def test_a_knock_before_the_first_word_does_not_drown_it() -> None:
    samples = np.zeros(32_000, np.float32)
    samples[3200:3600], samples[16_000:24_000] = 0.9, 0.02
    assert latency._onset_s(samples, 0.5) == pytest.approx(1.0, abs=0.041)
