"""Clips on disk and the command that makes them."""

from __future__ import annotations

import ctypes.util
import json
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from avsr.errors import InputError
from avsr.talker import make_clip, speak
from avsr.talker.__main__ import app

DEMO = Path(__file__).resolve().parents[2] / "avsr" / "talker" / "demo"
needs_espeak = pytest.mark.skipif(
    ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)"
)


@needs_espeak
def test_sound_and_picture_are_equally_long_and_the_sound_is_in_place(tmp_path: Path) -> None:
    clip = make_clip("bin red", tmp_path / "clip.mp4", seed=3, size=(192, 160))
    with av.open(str(clip.path)) as container:
        pictures = list(container.decode(video=0))
        container.seek(0)
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(pictures) == clip.num_frames
    assert (pictures[0].width, pictures[0].height) == (192, 160)
    assert pictures[-1].time + 1 / clip.fps == pytest.approx(len(sound) / 44_100, abs=1 / clip.fps)
    # 10 ms energies of the decoded sound match those of what was said, at lag 0 better than 10 ms off.
    said = speak("bin red", seed=3).samples
    heard, meant = (np.sqrt((x[: len(x) // n * n].reshape(-1, n) ** 2).mean(1)) for x, n in ((sound, 441), (said, 160)))
    length = min(len(heard), len(meant))
    fits = [np.corrcoef(np.roll(heard[:length], lag), meant[:length])[0, 1] for lag in (-1, 0, 1)]
    assert np.argmax(fits) == 1 and fits[1] > 0.98


@needs_espeak
def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    first, second = (make_clip("lay", tmp_path / name, seed=9, size=(128, 96)).path for name in ("a.mp4", "b.mp4"))
    assert first.read_bytes() == second.read_bytes()


@needs_espeak
def test_command_writes_clip_and_word_times(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    result = CliRunner().invoke(app, ["set white, now", "-o", str(path), "--size", "128x96", "--seed", "4", "--json"])
    assert result.exit_code == 0, result.output
    fields = json.loads(path.with_suffix(".json").read_text())
    assert fields["text"] == "set white now"
    assert [word["text"] for word in fields["words"]] == ["set", "white", "now"]
    assert 0 < fields["words"][0]["start"] < fields["words"][-1]["end"] < fields["duration"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["bin 2"], "numbers as words"),
        (["bin", "--voice", "nobody"], "no voice"),
        (["bin", "--size", "huge"], "360x288"),
        (["bin", "--seed", "-3"], "--seed"),
    ],
)
def test_bad_input_is_exit_code_2_with_the_reason(arguments: list[str], hint: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "clip.mp4")])
    assert result.exit_code == 2
    assert hint in result.output and "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@needs_espeak
def test_json_that_cannot_be_written_is_exit_code_2_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "clip.json").mkdir()
    result = CliRunner().invoke(app, ["bin", "-o", str(tmp_path / "clip.mp4"), "--size", "128x96", "--json"])
    assert result.exit_code == 2
    assert "clip.json: cannot be written (Is a directory)" in result.output


@pytest.mark.parametrize("name", ["clip.avi", "nowhere/clip.mp4"])
def test_a_path_that_cannot_hold_a_clip_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        make_clip("bin", tmp_path / name)


def test_help_names_the_options_and_voices_are_listed() -> None:
    assert "--list-voices" in CliRunner().invoke(app, ["--help"]).output
    assert "en-gb-scotland" in CliRunner().invoke(app, ["--list-voices"]).output


def test_demo_clip_is_small_and_matches_its_words() -> None:
    assert (DEMO / "bin_blue.mp4").stat().st_size < 400_000
    fields = json.loads((DEMO / "bin_blue.json").read_text())
    with av.open(str(DEMO / "bin_blue.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(fields["duration"], abs=0.06)
    assert fields["words"][-1]["end"] < fields["duration"]
