"""A recording gives back what was heard and seen, at the same times."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.live import recorder
from avsr.live.recorder import Recorder
from avsr.media import AudioPacket, open_media
from avsr.types import VideoFrame

BOTH = ("microphone", "camera")
RATE = 48_000


def packets(duration_s: float) -> tuple[list[AudioPacket], list[VideoFrame]]:
    rng = np.random.default_rng(1)
    samples = rng.integers(-9000, 9000, round(duration_s * RATE)).astype(np.int16)
    sounds = [AudioPacket(samples[i : i + 960], RATE, i / RATE) for i in range(0, len(samples), 960)]
    gradient = np.linspace(0, 200, 64 * 48).reshape(48, 64, 1).repeat(3, 2).astype(np.uint8)
    frames = [VideoFrame(gradient + 2 * i, 17_000 + 40_000 * i) for i in range(round(duration_s * 25))]
    return sounds, frames


def record(path: Path, items: list[AudioPacket | VideoFrame]) -> None:
    recording = Recorder(path, BOTH)
    for item in items:
        recording.take(item)
    assert recording.close() is None


def played(path: Path) -> tuple[list[AudioPacket], list[VideoFrame]]:
    with open_media(path) as media:
        found = list(media)
    return [p for p in found if isinstance(p, AudioPacket)], [p for p in found if isinstance(p, VideoFrame)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_sound_is_kept_to_the_bit_and_pictures_to_the_millisecond(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"talk.{suffix}"
    sounds, frames = packets(1.0)
    record(path, sorted([*sounds, *frames], key=lambda p: p.pts_us / 1e6 if isinstance(p, VideoFrame) else p.t_s or 0))
    heard, seen = played(path)
    kept, given = (np.concatenate([p.samples.ravel() for p in some]) for some in (heard, sounds))
    assert heard[0].t_s == 0.0
    assert heard[0].sample_rate == RATE
    assert np.array_equal(kept[: len(given)], given)
    assert [frame.pts_us for frame in seen] == [frame.pts_us for frame in frames]
    worst = max(np.abs(a.rgb.astype(int) - b.rgb).mean() for a, b in zip(seen, frames, strict=True))
    assert worst < 4


def test_a_gap_is_silence_and_what_comes_twice_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    sounds, frames = packets(1.0)
    gone, twice = sounds[10:30], sounds[35:38]
    record(path, [frames[0], *sounds[:10], *sounds[30:40], *twice, *sounds[40:]])
    kept = np.concatenate([p.samples.ravel() for p in played(path)[0]])
    given = np.concatenate([p.samples for p in sounds])
    given[960 * 10 : 960 * 30] = 0
    assert len(gone) == 20
    assert np.array_equal(kept[: len(given)], given)


def test_another_camera_and_another_microphone_fit_in(tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    sounds, frames = packets(0.4)
    other = AudioPacket(np.full(8_000, 500, np.int16), 16_000, 0.4)
    large = VideoFrame(np.full((98, 130, 3), 90, np.uint8), 600_000)
    record(path, [*frames, *sounds, other, large])
    heard, seen = played(path)
    kept = np.concatenate([p.samples.ravel() for p in heard])
    assert len(kept) >= 0.9 * RATE
    assert set(kept[round(0.41 * RATE) : round(0.89 * RATE)].tolist()) == {500}
    assert seen[-1].rgb.shape == (48, 64, 3)


@pytest.mark.parametrize(("first_hz", "second_hz"), [(16_000, 48_000), (48_000, 44_100), (48_000, 16_000)])
def test_another_microphone_sounds_as_it_did(tmp_path: Path, first_hz: int, second_hz: int) -> None:
    """A tone stays one, in its place, and what is too high for the first microphone's rate is no lower tone."""
    path = tmp_path / "talk.mkv"
    times_s = np.arange(second_hz) / second_hz
    high_hz = 12_000 if second_hz == 48_000 else 0
    tones = (8_000 * (np.sin(2 * np.pi * 1000 * times_s) + np.sin(2 * np.pi * high_hz * times_s))).astype(np.int16)
    size = second_hz // 50
    second = [AudioPacket(tones[i : i + size], second_hz, 0.4 + i / second_hz) for i in range(0, second_hz, size)]
    first = AudioPacket(np.zeros(round(0.4 * first_hz), np.int16), first_hz, 0.0)
    record(path, [VideoFrame(np.zeros((48, 64, 3), np.uint8), 0), first, *second])
    kept = np.concatenate([p.samples.ravel() for p in played(path)[0]])[round(0.4 * first_hz) :][:first_hz]
    wanted = 8_000 * np.sin(2 * np.pi * 1000 * np.arange(first_hz) / first_hz)
    inner = slice(first_hz // 10, -first_hz // 10)
    assert np.sqrt(np.mean((kept - wanted)[inner] ** 2)) < 8  # 57 dB under the tone


def test_sound_of_a_rate_that_cannot_be_is_told_though_no_picture_came(tmp_path: Path) -> None:
    recording = Recorder(tmp_path / "talk.mkv", BOTH)
    for rate_hz, t_s in ((16_000, 0.0), (50_001, 0.1)):
        recording.take(AudioPacket(np.zeros(rate_hz // 10, np.int16), rate_hz, t_s))
    assert "50001" in str(recording.close())


def test_a_picture_of_another_shape_keeps_its_proportions(tmp_path: Path) -> None:
    """Lips that are squeezed are read otherwise."""
    path = tmp_path / "talk.mkv"
    sounds, frames = packets(0.4)
    tall = VideoFrame(np.full((120, 40, 3), 200, np.uint8), 600_000)  # of 48 rows it takes 16 columns of 64
    record(path, [*frames, *sounds, tall])
    rgb = played(path)[1][-1].rgb.astype(int)
    assert rgb[4:-4, 26:38].min() > 150
    assert max(rgb[:, :20].max(), rgb[:, 44:].max()) < 60


def test_a_sense_that_never_came_leaves_the_other(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    record(path, list(packets(0.6)[0]))
    assert len(played(path)[0]) > 3


@pytest.mark.parametrize("name", ["talk.doc", "none/talk.mp4"])
def test_a_place_that_cannot_be_written_to_is_said_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"talk"):
        Recorder(tmp_path / name, BOTH)


def test_an_earlier_recording_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    assert Recorder(path, BOTH).close() is None
    assert not path.exists()  # nothing came
    path.write_bytes(b"yesterday")
    with pytest.raises(InputError, match="already"):
        Recorder(path, BOTH)
    assert path.read_bytes() == b"yesterday"


def test_a_slow_encoder_costs_pictures_before_sound_and_the_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(recorder, "MAX_WAITING_BEFORE_PICTURE", 2)
    monkeypatch.setattr(Recorder, "_encode", lambda self, packet: go_on.wait(60) and None)
    kept = Recorder(tmp_path / "talk.mkv", BOTH)
    sounds, frames = packets(0.2)
    for item in [*sounds, *frames]:
        kept.take(item)
    go_on.set()
    assert f"{len(frames)} pieces are missing" in str(kept.close())
