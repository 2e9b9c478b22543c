"""Frames of the talking head. The speech is made by hand, so none of this needs a synthesiser."""

from __future__ import annotations

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.lips.landmarks import FaceMesh
from avsr.talker import Phoneme, Speech, random_face, render
from avsr.talker.lips import LipLines, lip_lines
from avsr.talker.mouth import mouth_track
from avsr.types import SAMPLE_RATE, FloatArray, Word

COLUMNS = np.linspace(-0.6, 0.6, 241, dtype=np.float32)


def speech_of(*phonemes: tuple[str, float]) -> Speech:
    """Silence in which the named phonemes of the given lengths are timed, from 0.2 s on."""
    placed, time_s = [], 0.2
    for name, length_s in phonemes:
        placed.append(Phoneme(name, time_s, time_s + length_s))
        time_s += length_s
    samples: FloatArray = np.zeros(round((time_s + 0.2) * SAMPLE_RATE), np.float32)
    return Speech(samples, tuple(placed), (Word("hum", 0.2, time_s, 1.0),))


BABBLE = speech_of(
    ("b", 0.1), ("A:", 0.15), ("m", 0.1), ("a", 0.15), ("p", 0.09), ("u:", 0.15), ("f", 0.1), ("i:", 0.15)
)


def opening(lines: LipLines) -> float:
    """Largest gap between the lips over the mouth's width."""
    return float(np.max(lines.lower_inner - lines.upper_inner)) / (2 * lines.half_width)


@pytest.mark.parametrize("fps", [15.0, 25.0, 60.0])
@pytest.mark.parametrize("sound", ["p", "b", "m"])
def test_lips_meet_for_every_bilabial(sound: str, fps: float) -> None:
    face = random_face(1)
    for start_s in np.linspace(0.1, 0.2, 6):
        speech = speech_of(("A:", start_s), (sound, 0.07), ("A:", 0.2))
        start_s, end_s = speech.phonemes[1].start_s, speech.phonemes[1].end_s
        openings = [opening(lip_lines(face, shape, COLUMNS)) for shape in mouth_track(speech, fps)]
        times_s = (np.arange(len(openings)) + 0.5) / fps
        closing = [o for o, t in zip(openings, times_s, strict=True) if start_s <= t <= max(end_s, start_s + 1 / fps)]
        assert min(closing) < 0.01
        assert max(openings) > 0.2


def test_mouth_rests_before_and_after_speech() -> None:
    track = mouth_track(BABBLE)
    assert track[0].gap < 0.03 and track[-1].gap < 0.1


def test_mouths_differ_as_their_sounds_do() -> None:
    track = {name: mouth_track(speech_of((name, 0.4)))[9] for name in ("A:", "i:", "u:", "f", "T", "m")}
    assert track["A:"].jaw > 2 * track["i:"].jaw
    assert track["i:"].width > 0.5 and track["u:"].width < -0.5
    assert track["u:"].rounding > 0.6 and track["i:"].rounding < 0.1
    assert track["f"].tuck > 0.9 and track["T"].tip > 0.8 and track["m"].gap < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_face_mesh_follows_the_face_and_its_mouth(seed: int, face_mesh: type[FaceMesh]) -> None:
    face = random_face(seed)
    drawn = [opening(lip_lines(face, shape, COLUMNS)) for shape in mouth_track(BABBLE)]
    with face_mesh() as mesh:
        found = [mesh(rgb) for rgb in render(BABBLE, face, size=(240, 192))]
    assert sum(map(bool, found)) >= 0.95 * len(found)
    pairs = [(faces[0].mouth_opening, opening) for faces, opening in zip(found, drawn, strict=True) if faces]
    seen, drawn_there = np.array(pairs).T
    assert np.corrcoef(seen, drawn_there)[0, 1] > 0.75
    assert seen[drawn_there < 0.01].mean() < 0.06 < 0.1 < seen[drawn_there > 0.25].mean()


@pytest.fixture(scope="module")
def face_mesh() -> type[FaceMesh]:
    pytest.importorskip("mediapipe")
    return FaceMesh


def test_the_same_seed_draws_the_same_frames_and_another_seed_another_face() -> None:
    short = speech_of(("m", 0.1))
    first, second, other = (list(render(short, random_face(seed), size=(192, 160))) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.abs(first[0].astype(int) - other[0]).mean() > 5


@pytest.mark.parametrize(
    ("size", "fps"), [((320, 240), 25.0), ((240, 320), 12.5), ((640, 480), 10.0), ((96, 96), 50.0)]
)
def test_any_even_size_and_rate_is_drawn(size: tuple[int, int], fps: float) -> None:
    short = speech_of(("m", 0.04))
    frames = list(render(short, random_face(2), size=size, fps=fps))
    assert len(frames) == np.ceil(short.duration_s * fps - 1e-6)
    assert all(frame.shape == (size[1], size[0], 3) and frame.dtype == np.uint8 for frame in frames)


@pytest.mark.parametrize(
    ("size", "fps"), [((321, 240), 25.0), ((0, 240), 25.0), ((320, 9000), 25.0), ((320, 240), 0.0)]
)
def test_impossible_pictures_are_refused_at_once(size: tuple[int, int], fps: float) -> None:
    with pytest.raises(InputError):
        render(BABBLE, random_face(0), size=size, fps=fps)
