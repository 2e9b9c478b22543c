"""How long a file says it is: what FFmpeg only guesses, from a bit rate that varies, is no such word."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import write_clip

from avsr.media import open_media


def _write(path: Path, options: dict[str, str]) -> None:
    """Write 4 s of silence and 4 s of noise at a bit rate that varies."""
    codec = {".mp3": "libmp3lame", ".aac": "aac"}[path.suffix]
    noise = np.random.default_rng(3).integers(-9000, 9000, (1, 4 * 44100)).astype(np.int16)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=44100, layout="mono")
        stream.options = {"flags": "+qscale", "global_quality": "200"}
        for start, samples in ((0, np.zeros_like(noise)), (4 * 44100, noise)):
            sound = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 44100, start, Fraction(1, 44100)
            container.mux(stream.encode(sound))
        container.mux(stream.encode())


def _read(path: Path) -> tuple[float, float | None, tuple[str, ...]]:
    with open_media(path) as media:
        list(media)
        return media.position_s, media.duration_s, media.warnings


@pytest.mark.parametrize("num_tag_bytes", [0, 50_000])
@pytest.mark.parametrize(("suffix", "options"), [(".mp3", {"write_xing": "0", "id3v2_version": "0"}), (".aac", {})])
def test_a_duration_that_is_a_guess_is_neither_shown_nor_missed(tmp_path, suffix, options, num_tag_bytes):
    path = tmp_path / f"sound{suffix}"
    _write(path, options)
    # A tag of ID3, as for a cover picture, states its size in four times 7 bits.
    size = bytes(num_tag_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    tag = b"ID3\3\0\0" + size + bytes(num_tag_bytes) if num_tag_bytes else b""
    path.write_bytes(tag + path.read_bytes())
    with av.open(str(path)) as container:
        assert container.duration / 1e6 > 9
    position_s, duration_s, warnings = _read(path)
    assert position_s == pytest.approx(8.0, abs=0.1)
    assert duration_s is None and warnings == ()


def test_an_mp3_that_states_its_duration_is_missed_when_it_ends_before(tmp_path):
    path = tmp_path / "sound.mp3"
    _write(path, {})
    assert _read(path) == (pytest.approx(8.0, abs=0.1), pytest.approx(8.0, abs=0.1), ())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    position_s, duration_s, warnings = _read(path)
    assert position_s < 6 and duration_s == pytest.approx(8.0, abs=0.1)
    assert len(warnings) == 1 and "the end may be missing" in warnings[0]


def test_a_matroska_that_was_cut_from_the_middle_ends_where_it_states(tmp_path):
    path = tmp_path / "cut.mkv"
    write_clip(path, audio_s=2.0, audio_start_s=300.0)
    position_s, duration_s, warnings = _read(path)
    assert (position_s, duration_s) == (pytest.approx(2.0, abs=0.05), pytest.approx(2.0, abs=0.05))
    assert warnings == ()
