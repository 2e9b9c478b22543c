"""The lip stage: one frame a tick, a lost face held and then let go, and a state that is a value."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.lips import Face, FaceMesh, LipInput, LipState, LipTracker
from avsr.lips.light import DIM_LEVEL
from avsr.lips.speaker import FORGET_TICKS
from avsr.lips.tracker import HOLD_TICKS
from avsr.types import ByteArray, LipFrame, VideoFrame, VideoTick

MakeFace = Callable[..., Face]
DrawFace = Callable[..., ByteArray]


class ScriptedLandmarker:
    """Reads from the picture's first pixel whether a face is there: 0 for none, otherwise its place."""

    def __init__(self, make_face: MakeFace) -> None:
        self.num_calls = 0
        self._make_face = make_face

    def __call__(self, rgb: ByteArray) -> list[Face]:
        self.num_calls += 1
        place, opening, _ = rgb[0, 0].tolist()
        return [self._make_face(complex(100 + place, 150), 8, opening / 255)] if place else []

    def close(self) -> None:
        pass


@pytest.fixture
def landmarker(make_face: MakeFace) -> ScriptedLandmarker:
    return ScriptedLandmarker(make_face)


@pytest.fixture
def tracker(landmarker: ScriptedLandmarker) -> LipTracker:
    return LipTracker(landmarker)


def test_a_lost_face_is_held_then_invisible_and_comes_back(tracker: LipTracker) -> None:
    frames, _ = _run(tracker, [_see(tick, 50 if tick < 3 or tick >= 12 else 0) for tick in range(15)])
    assert [frame.tick for frame in frames] == list(range(15))
    assert [frame.visible for frame in frames] == [True] * 8 + [False] * 4 + [True] * 3
    for held in frames[3:8]:
        np.testing.assert_array_equal(held.gray, frames[2].gray)
    for gone in frames[8:12]:
        assert not gone.gray.any()
        assert gone.mouth_opening is None


def test_a_dim_mouth_is_shown_bright(tracker: LipTracker) -> None:
    (frame,), _ = _run(tracker, [_see(0, 50)])
    assert frame.gray.mean() == pytest.approx(DIM_LEVEL, rel=0.05)


def test_a_camera_that_gives_nothing_is_held_and_let_go_like_a_lost_face(tracker: LipTracker) -> None:
    frames, _ = _run(tracker, [_see(0, 50), *[LipInput(VideoTick(tick, None)) for tick in range(1, 9)]])
    assert [frame.visible for frame in frames] == [True] * 6 + [False] * 3


def test_without_a_first_face_nothing_is_visible(tracker: LipTracker) -> None:
    frames, _ = _run(tracker, [LipInput(VideoTick(0, None)), _see(1, 0), LipInput(VideoTick(2, None, repeated=True))])
    assert [frame.visible for frame in frames] == [False] * 3


def test_a_repeated_picture_is_not_looked_at_again(tracker: LipTracker, landmarker: ScriptedLandmarker) -> None:
    frames, _ = _run(tracker, [_see(0, 50), _see(1, 50, repeated=True), _see(2, 50, repeated=True), _see(3, 60)])
    assert landmarker.num_calls == 2
    np.testing.assert_array_equal(frames[2].gray, frames[0].gray)
    assert [frame.tick for frame in frames] == [0, 1, 2, 3]


@pytest.mark.parametrize("ticks_a_picture", [1, 2, 5])
def test_who_is_read_changes_after_a_second_whatever_the_rate_of_pictures(
    make_face: MakeFace, ticks_a_picture: int
) -> None:
    def look(rgb: ByteArray) -> list[Face]:
        speaker_is_there = bool(rgb[0, 0, 0])
        return [make_face(100 + 150j, 9)] * speaker_is_there + [make_face(300 + 150j, 8)]

    landmarker = Mock(side_effect=look)
    script = [_see(tick, tick < 20, repeated=tick % ticks_a_picture > 0) for tick in range(60)]
    frames, _ = _run(LipTracker(landmarker), script)
    unread = [frame.tick for frame in frames if not frame.visible]
    assert unread[0] == 20 + HOLD_TICKS
    assert abs(unread[-1] + 1 - (20 + FORGET_TICKS)) <= ticks_a_picture


def test_repeating_a_picture_without_a_face_does_not_hold_it_forever(tracker: LipTracker) -> None:
    inputs = [_see(0, 50), _see(1, 0), *[_see(tick, 0, repeated=True) for tick in range(2, 10)]]
    frames, _ = _run(tracker, inputs)
    assert [frame.visible for frame in frames] == [True] * 6 + [False] * 4


def test_a_face_that_comes_back_elsewhere_starts_a_new_crop(tracker: LipTracker) -> None:
    _, state = _run(tracker, [_see(0, 50), *[_see(tick, 0) for tick in range(1, 10)], _see(10, 250)])
    assert state.crop is not None
    assert abs(state.crop.pose.centre - (350 + 150j)) < 1e-2


pictures = st.tuples(
    st.sampled_from([0, 0, 40, 42, 45, 200]), st.integers(0, 255), st.booleans(), st.booleans(), st.floats(-90, 0)
)


@given(script=st.lists(pictures, min_size=1, max_size=40), cut_at=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_a_stream_resumes_from_any_state_and_states_never_change(
    make_face: MakeFace, script: list[tuple[int, int, bool, bool, float]], cut_at: int
) -> None:
    inputs = _inputs(script)
    tracker = LipTracker(ScriptedLandmarker(make_face))
    whole, end = _run(tracker, inputs)
    head, middle = _run(tracker, inputs[:cut_at])
    snapshot = _describe(middle)
    tail, resumed_end = _run(LipTracker(ScriptedLandmarker(make_face)), inputs[cut_at:], middle)
    assert _describe(middle) == snapshot
    assert _describe(resumed_end) == _describe(end)
    for a, b in zip(whole, head + tail, strict=True):
        assert (a.tick, a.visible, a.mouth_opening) == (b.tick, b.visible, b.mouth_opening)
        np.testing.assert_array_equal(a.gray, b.gray)


@given(script=st.lists(pictures, min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_with_one_face_the_sound_never_changes_a_crop(
    make_face: MakeFace, script: list[tuple[int, int, bool, bool, float]]
) -> None:
    inputs = _inputs(script)
    tracker = LipTracker(ScriptedLandmarker(make_face))
    heard, _ = _run(tracker, inputs)
    deaf, _ = _run(tracker, [LipInput(x.video, None) for x in inputs])
    for a, b in zip(heard, deaf, strict=True):
        np.testing.assert_array_equal(a.gray, b.gray)


def test_two_drawn_faces_keep_their_identity_until_the_other_speaks(draw_face: DrawFace) -> None:
    """The larger face on the left is still; from tick 25 on, the sound goes with the right one's lips."""
    random = np.random.default_rng(1)
    on_right = []
    with FaceMesh() as mesh:
        tracker = LipTracker(mesh)
        state = tracker.init_state()
        left = draw_face((480, 270), (130, 135), 150)
        still = draw_face((480, 270), (350, 135), 130, picture=left)
        for tick in range(110):
            speaks = tick >= 25 and tick % 30 < 20
            picture = draw_face((480, 270), (350, 135), 130, random.uniform(0, 1), picture=left) if speaks else still
            video = VideoTick(tick, VideoFrame(picture, tick * 40_000))
            frame, state = tracker.step(LipInput(video, -20.0 if speaks else -60.0), state)
            assert frame.visible
            assert state.crop is not None
            on_right.append(state.crop.pose.centre.real > 240)
    assert not any(on_right[:50])
    assert all(on_right[-10:])
    assert sum(a != b for a, b in itertools.pairwise(on_right)) == 1


def test_a_real_face_is_lost_behind_a_cover_and_found_again(grid_pictures: list[ByteArray]) -> None:
    covered = [np.full_like(p, 60) if 20 <= i < 40 else p for i, p in enumerate(grid_pictures[:50])]
    with FaceMesh() as mesh:
        inputs = [LipInput(VideoTick(i, VideoFrame(p, i * 40_000))) for i, p in enumerate(covered)]
        frames, _ = _run(LipTracker(mesh), inputs)
    visible = [frame.visible for frame in frames]
    assert all(visible[:25])
    assert not any(visible[26:40])
    assert all(visible[41:])
    difference = np.abs(frames[49].gray.astype(int) - frames[19].gray).mean()
    assert difference < 12


def _inputs(script: Sequence[tuple[int, int, bool, bool, float]]) -> list[LipInput]:
    """Ticks from (place, opening, repeated, camera gives nothing, dB); a repeated picture is the one before."""
    inputs: list[LipInput] = []
    for tick, (place, opening, repeated, absent, audio_db) in enumerate(script):
        before = inputs[-1].video.frame if inputs else None
        if absent:
            video = VideoTick(tick, None)
        elif repeated and before is not None:
            video = VideoTick(tick, before, repeated=True)
        else:
            video = _see(tick, place, opening).video
        inputs.append(LipInput(video, audio_db))
    return inputs


def _see(tick: int, place: int, opening: int = 0, repeated: bool = False) -> LipInput:
    rgb = np.zeros((300, 400, 3), np.uint8)
    rgb[:, :, 1] = np.arange(400) // 2
    rgb[0, 0] = place, opening, 0
    return LipInput(VideoTick(tick, VideoFrame(rgb, tick * 40_000), repeated))


def _run(
    tracker: LipTracker, inputs: Sequence[LipInput], state: LipState | None = None
) -> tuple[list[LipFrame], LipState]:
    state = tracker.init_state() if state is None else state
    frames = []
    for x in inputs:
        frame, state = tracker.step(x, state)
        frames.append(frame)
    return frames, state


def _describe(state: LipState) -> tuple[object, ...]:
    last = state.last and (state.last.gray.tobytes(), state.last.tick, state.last.visible)
    return last, state.crop, state.lost_ticks, state.speaker
