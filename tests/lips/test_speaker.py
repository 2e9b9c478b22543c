"""The face that is read is the one whose lips move with the sound."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.lips import Face, FaceMesh
from avsr.lips.speaker import PATIENCE_TICKS, SpeakerState, pick_speaker
from avsr.types import FloatArray, level_db

MakeFace = Callable[..., Face]
LEFT, RIGHT = 150 + 200j, 450 + 200j


def test_one_face_is_chosen_whatever_the_sound(make_face: MakeFace) -> None:
    state = SpeakerState()
    face = make_face(LEFT)
    for audio_db in (None, -120.0, 0.0, None, -30.0):
        chosen, state = pick_speaker([face], audio_db, state)
        assert chosen is face


def test_the_largest_face_is_chosen_first(make_face: MakeFace) -> None:
    small, large = make_face(LEFT, 6), make_face(RIGHT, 9)
    chosen, _ = pick_speaker([small, large], None, SpeakerState())
    assert chosen is large


@given(orders=st.lists(st.booleans(), min_size=30, max_size=60), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_faces_never_matters(make_face: MakeFace, orders: list[bool], seed: int) -> None:
    random = np.random.default_rng(seed)
    state, same_state = SpeakerState(), SpeakerState()
    mouths = [LEFT, RIGHT]
    for turned in orders:
        mouths = [mouth + complex(*random.normal(0, 8, 2)) for mouth in mouths]
        faces = [make_face(mouths[0], 8.5, random.random()), make_face(mouths[1], 8, random.random())]
        audio_db = float(random.uniform(-70, -10))
        chosen, state = pick_speaker(faces, audio_db, state)
        same, same_state = pick_speaker(faces[::-1] if turned else faces, audio_db, same_state)
        assert chosen is same


def test_lips_that_move_with_the_sound_take_over_after_about_a_second(make_face: MakeFace) -> None:
    chosen = _talk(make_face, num_ticks=250, right_speaks=lambda tick: True)
    first = chosen.index("right")
    assert PATIENCE_TICKS <= first < 100
    assert set(chosen[first:]) == {"right"}


def test_the_choice_follows_a_conversation_slowly(make_face: MakeFace) -> None:
    chosen = _talk(make_face, num_ticks=600, right_speaks=lambda tick: tick < 300)
    assert chosen[299] == "right"
    assert chosen[-1] == "left"
    assert sum(a != b for a, b in itertools.pairwise(chosen)) == 2


def test_moving_lips_without_any_sound_take_nothing_over(make_face: MakeFace) -> None:
    chosen = _talk(make_face, num_ticks=250, right_speaks=lambda tick: True, deaf=True)
    assert set(chosen) == {"left"}


def test_a_voice_from_elsewhere_takes_nothing_over(make_face: MakeFace) -> None:
    chosen = _talk(make_face, num_ticks=600, right_speaks=lambda tick: None)
    assert set(chosen) == {"left"}


def test_a_short_absence_hands_the_choice_to_nobody(make_face: MakeFace) -> None:
    state = SpeakerState()
    mine, other = make_face(LEFT, 9), make_face(RIGHT, 8)
    _, state = pick_speaker([mine, other], None, state)
    for _ in range(20):
        chosen, state = pick_speaker([other], None, state)
        assert chosen is None
    chosen, state = pick_speaker([other, mine], None, state)
    assert chosen is mine


def test_a_long_absence_hands_the_choice_on(make_face: MakeFace) -> None:
    state = SpeakerState()
    _, state = pick_speaker([make_face(LEFT, 9), make_face(RIGHT, 8)], None, state)
    other = make_face(RIGHT, 8)
    chosen = [pick_speaker([other], None, state)[0]]
    for _ in range(30):
        face, state = pick_speaker([other], None, state)
        chosen.append(face)
    assert chosen[-1] is other


def test_a_jump_of_the_only_face_is_followed_at_once(make_face: MakeFace) -> None:
    state = SpeakerState()
    _, state = pick_speaker([make_face(LEFT)], None, state)
    jumped = make_face(RIGHT, 3)
    chosen, _ = pick_speaker([jumped], None, state)
    assert chosen is jumped


def test_a_crowd_coming_and_going_leaves_no_trace(make_face: MakeFace) -> None:
    state = SpeakerState()
    for tick in range(200):
        faces = [make_face(complex(200 * (tick * 3 % 17), 200 * (tick * 5 % 11)))] * (tick % 3)
        _, state = pick_speaker(faces, -20.0, state)
    for _ in range(40):
        _, state = pick_speaker([], -20.0, state)
    assert state.people == ()


def test_level_is_in_db_of_full_scale() -> None:
    assert level_db(np.ones(640, np.float32)) == pytest.approx(0)
    assert level_db(np.full(640, 0.1, np.float32)) == pytest.approx(-20, abs=1e-3)
    assert level_db(np.zeros(640, np.float32)) == -120
    assert level_db(np.zeros(0, np.float32)) == -120


@pytest.fixture(scope="module")
def talkers(shared_data: Path) -> list[tuple[FloatArray, FloatArray]]:
    """Two real people."""
    return [_talker(shared_data, speaker) for speaker in ("s1", "s5")]


@pytest.mark.parametrize("speaking", [0, 1])
def test_of_two_real_talkers_in_turn_the_one_that_is_heard_is_chosen(
    talkers: list[tuple[FloatArray, FloatArray]], speaking: int
) -> None:
    """Each says two sentences of its own twice, in 3 s each and half of that apart; one of them is heard."""
    points, levels_db = (np.concatenate([senses, senses]) for senses in talkers[speaking])
    other_points = np.roll(np.tile(talkers[1 - speaking][0], (2, 1, 1)), 37, axis=0) + np.array([400, 0], np.float32)
    state, right = SpeakerState(), []
    for mine, other, audio_db in zip(points, other_points, levels_db.tolist(), strict=True):
        faces = [Face(mine), Face(other)]
        chosen, state = pick_speaker(faces, audio_db, state)
        right.append(chosen is faces[0])
    assert all(right[-75:])


def _talk(
    make_face: MakeFace, num_ticks: int, right_speaks: Callable[[int], bool | None], deaf: bool = False
) -> list[str]:
    """Two faces, one speaking in phrases and one (for None both) still; who is chosen. The left one is larger."""
    random = np.random.default_rng(5)
    state, chosen = SpeakerState(), []
    for tick in range(num_ticks):
        phrase = tick % 50 < 30
        moving, still = (random.uniform(0, 0.5) if phrase else 0.02), random.uniform(0, 0.03)
        on_right = right_speaks(tick)
        moving = random.uniform(0, 0.03) if on_right is None else moving
        left = make_face(LEFT, 9, still if on_right else moving)
        right = make_face(RIGHT, 8, moving if on_right else still)
        audio_db = None if deaf else (-25 if phrase else -60) + float(random.normal(0, 3))
        face, state = pick_speaker([left, right], audio_db, state)
        chosen.append("left" if face is left else "right")
    return chosen


def _talker(shared_data: Path, speaker: str) -> tuple[FloatArray, FloatArray]:
    """Two clips on end: points f32 (150, 468, 2) and the loudness of each tick, dB."""
    points, levels = [], []
    for clip in sorted((shared_data / "grid" / speaker).glob("*.mp4"))[:2]:
        with av.open(str(clip)) as container, FaceMesh(max_num_faces=1) as mesh:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            points += [mesh(picture)[0].points for picture in pictures[:75]]
        with av.open(str(clip)) as container:
            resampler = av.AudioResampler("flt", "mono", 16_000)
            pieces = [
                piece.to_ndarray()[0] for frame in container.decode(audio=0) for piece in resampler.resample(frame)
            ]
        samples = np.zeros(75 * 640, np.float32)
        heard = np.concatenate(pieces)[: len(samples)]
        samples[: len(heard)] = heard
        levels += [level_db(tick) for tick in samples.reshape(75, 640)]
    return np.stack(points), np.array(levels, np.float32)
