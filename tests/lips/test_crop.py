"""The crop holds the mouth still while the head moves, and only the lips move inside it."""

from __future__ import annotations

import cmath
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.lips import Face, FaceMesh
from avsr.lips.crop import CROP_PX_PER_CM, CropState, Pose, cut, follow, head_pose
from avsr.types import ByteArray

MakeFace = Callable[..., Face]

mouths = st.builds(complex, st.floats(-500, 4000), st.floats(-500, 4000))
zooms = st.builds(cmath.rect, st.floats(1, 60), st.floats(-cmath.pi, cmath.pi))


@given(mouth=mouths, zoom=zooms, opening=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_the_pose_is_the_heads_whatever_the_mouth_does(
    make_face: MakeFace, mouth: complex, zoom: complex, opening: float
) -> None:
    pose = head_pose(make_face(mouth, zoom, opening))
    assert abs(pose.centre - mouth) < 1e-2
    assert abs(pose.zoom * CROP_PX_PER_CM - zoom) < 1e-2


@given(
    mouth=st.builds(complex, st.floats(150, 250), st.floats(150, 250)),
    zoom=st.builds(cmath.rect, st.floats(6, 14), st.floats(-3, 3)),
)
@settings(max_examples=25, deadline=None)
def test_a_crop_is_the_same_wherever_the_face_is(make_face: MakeFace, mouth: complex, zoom: complex) -> None:
    upright = _wavy_picture(200 + 200j, CROP_PX_PER_CM + 0j)
    expected = cut(upright, follow(make_face(200 + 200j, CROP_PX_PER_CM), None).pose)
    gray = cut(_wavy_picture(mouth, zoom), follow(make_face(mouth, zoom), None).pose)
    assert gray.shape == (96, 96)
    assert gray.dtype == np.uint8
    assert np.abs(gray.astype(int) - expected).max() <= 6


def test_a_resting_mouth_takes_42_percent_of_the_crop_and_its_middle(make_face: MakeFace) -> None:
    face = make_face(300 + 200j, 20j)
    state = follow(face, None)
    assert face.mouth_width / abs(state.pose.zoom) / 96 == pytest.approx(0.42, abs=0.01)
    assert abs(state.pose.centre - (300 + 200j)) < 1e-2


def test_opening_the_mouth_does_not_move_the_crop(make_face: MakeFace) -> None:
    state = follow(make_face(opening=0), None)
    for opening in (0.2, 0.6, 1.0, 0.3):
        moved = follow(make_face(opening=opening), state)
        assert abs(moved.pose.centre - state.pose.centre) < 1e-3
        assert moved.pose.zoom == pytest.approx(state.pose.zoom)


def test_jitter_is_averaged_away(make_face: MakeFace) -> None:
    random = np.random.default_rng(3)
    state = follow(make_face(), None)
    raw, smooth = [], []
    for _ in range(200):
        face = Face(make_face().points + random.normal(0, 0.6, (468, 2)).astype(np.float32))
        state = follow(face, state)
        raw.append(head_pose(face).centre)
        smooth.append(state.pose.centre)
    assert np.abs(np.diff(smooth)).mean() < 0.4 * np.abs(np.diff(raw)).mean()


@given(speed=st.builds(cmath.rect, st.floats(0, 120), st.floats(-3, 3)), turn=st.floats(-0.2, 0.2))
@settings(max_examples=40, deadline=None)
def test_fast_motion_is_followed_within_two_pixels(make_face: MakeFace, speed: complex, turn: float) -> None:
    state: CropState | None = None
    for tick in range(20):
        mouth, zoom = 300 + 300j + speed * tick, 8 * cmath.exp(1j * turn * tick)
        state = follow(make_face(mouth, zoom), state)
        assert abs(state.pose.centre - mouth) / abs(state.pose.zoom) < 2


def test_the_state_does_not_grow_and_is_not_changed(make_face: MakeFace) -> None:
    state = follow(make_face(), None)
    before = repr(state)
    later = state
    for _ in range(500):
        later = follow(make_face(190 + 185j), later)
    assert repr(state) == before
    assert later.num_ticks <= 20


@given(
    centre=st.builds(complex, st.floats(0, 119), st.floats(0, 89)),
    zoom=st.builds(cmath.rect, st.floats(0.2, 3), st.floats(-3, 3)),
)
@settings(max_examples=20, deadline=None)
def test_a_picture_upside_down_gives_the_crop_upside_down(centre: complex, zoom: complex) -> None:
    """So the middle of the crop is where the pose says, to a fraction of a pixel."""
    rgb = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    gray, turned = cut(rgb, Pose(centre, zoom)), cut(rgb[::-1, ::-1], Pose(119 + 89j - centre, zoom))
    assert np.abs(gray.astype(int) - turned[::-1, ::-1]).mean() < 2


def test_a_face_much_larger_than_the_crop_does_not_alias() -> None:
    stripes = np.zeros((1080, 1920, 3), np.uint8)
    stripes[:, ::2] = 255
    for zoom in (4 + 0j, 7.3 + 0j, 5 + 3j, 11j):
        gray = cut(stripes, Pose(960 + 540j, zoom))
        assert gray.std() < 12
        assert abs(gray.mean() - 127.5) < 3


@given(
    centre=mouths,
    zoom=st.builds(cmath.rect, st.floats(0.01, 40), st.floats(-3, 3)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
@settings(max_examples=60, deadline=None)
def test_a_crop_beyond_the_picture_goes_on_with_its_edge(centre: complex, zoom: complex, size: tuple[int, int]) -> None:
    gray = cut(np.full((*size, 3), 77, np.uint8), Pose(centre, zoom))
    assert gray.shape == (96, 96)
    assert (gray == 77).all()


def test_a_moving_turning_growing_head_leaves_a_real_crop_still(grid_pictures: list[ByteArray]) -> None:
    pictures = grid_pictures[:40]
    height, width = pictures[0].shape[:2]
    moved = []
    for tick, picture in enumerate(pictures):
        affine = cv2.getRotationMatrix2D((width / 2, height / 2), 12 * np.sin(tick / 6), 1.15 + 0.15 * np.sin(tick / 9))
        affine[:, 2] += 15 * np.sin(tick / 5), 8 * np.cos(tick / 7)
        moved.append(cv2.warpAffine(picture, affine, (width, height), flags=cv2.INTER_CUBIC, borderValue=(90, 90, 90)))
    still_crops, moved_crops = _crops(pictures), _crops(moved)
    error = np.abs(still_crops - moved_crops).mean(axis=(1, 2))
    contrast = still_crops.std(axis=(1, 2)).mean()
    assert error.mean() < 0.12 * contrast
    assert error.max() < 0.25 * contrast


def _crops(pictures: list[ByteArray]) -> np.ndarray:
    crops, state = [], None
    with FaceMesh(max_num_faces=1) as mesh:
        for picture in pictures:
            (face,) = mesh(picture)
            state = follow(face, state)
            crops.append(cut(picture, state.pose).astype(np.float32))
    return np.stack(crops)


def _wavy_picture(mouth: complex, zoom: complex) -> ByteArray:
    """A smooth pattern that sits on the face: waves of the position in cm from the mouth."""
    y, x = np.mgrid[:400, :400]
    place = (x + 1j * y - mouth) / zoom
    gray = 128 + 60 * np.sin(place.real * 0.9 + 0.4) + 60 * np.cos(place.imag * 0.7)
    return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
