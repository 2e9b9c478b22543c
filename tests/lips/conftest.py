"""Faces for the lip tests: a drawn one that FaceMesh finds, and landmarks without any picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avsr.lips import Face
from avsr.lips.crop import ANCHOR_LAYOUT
from avsr.types import ByteArray

DrawFace = Callable[..., ByteArray]
MakeFace = Callable[..., Face]


@pytest.fixture(scope="session")
def draw_face() -> DrawFace:
    """Draw a shaded face on u8 (H, W, 3): ``draw_face((width, height), (x, y), face_height, opening=0.0)``."""
    return _draw_face


@pytest.fixture(scope="session")
def make_face() -> MakeFace:
    """Landmarks of a frontal face: ``make_face(mouth=x + iy, zoom=px per cm, turned by the roll, opening=0.0)``."""
    return _make_face


@pytest.fixture(scope="session")
def grid_pictures(shared_data: Path) -> list[ByteArray]:
    """The 75 pictures of a real clip."""
    clip = min((shared_data / "grid" / "s1").glob("*.mp4"))
    with av.open(str(clip)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _draw_face(
    size: tuple[int, int] = (360, 288),
    centre: tuple[float, float] = (180, 144),
    face_height: float = 200,
    opening: float = 0.0,
    picture: ByteArray | None = None,
) -> ByteArray:
    scale = 3  # drawn large and averaged down, so that edges are soft
    canvas = np.full((size[1], size[0], 3), (70, 90, 110), np.uint8) if picture is None else picture
    canvas = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    unit = face_height / 200 * scale

    def ellipse(x: float, y: float, half_width: float, half_height: float, colour: tuple[int, int, int]) -> None:
        middle = (round(centre[0] * scale + x * unit), round(centre[1] * scale + y * unit))
        axes = (max(1, round(half_width * unit)), max(1, round(half_height * unit)))
        cv2.ellipse(canvas, middle, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, -25, 78, 95, (60, 40, 30))  # hair
    for ring in range(8):
        shade = 0.72 + 0.04 * ring
        skin = (int(225 * shade), int(180 * shade), int(155 * shade))
        ellipse(0, 0, 70 - 5 * ring, 100 - 6 * ring, skin)
    for side in (-1, 1):
        ellipse(side * 29, -39, 16, 3, (80, 55, 45))  # brow
        ellipse(side * 28, -24, 13, 6, (240, 240, 240))
        ellipse(side * 28, -24, 6, 6, (70, 50, 40))
        ellipse(side * 28, -24, 3, 3, (10, 10, 10))
        ellipse(side * 7, 19, 4, 2.5, (110, 70, 60))  # nostril
    ellipse(0, -2, 6, 20, (215, 170, 145))  # nose
    ellipse(0, 48, 25, 6 + 12 * opening, (175, 85, 85))
    ellipse(0, 48, 19, 1 + 11 * opening, (60, 20, 25))
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def _make_face(mouth: complex = 180 + 180j, zoom: complex = 8.0, opening: float = 0.0) -> Face:
    layout = dict.fromkeys(range(468), 0j) | ANCHOR_LAYOUT
    layout |= {61: -2.45 + 0j, 291: 2.45 + 0j, 13: -0.5j * 4.9 * opening, 14: 0.5j * 4.9 * opening}
    layout |= {10: -12j, 152: 4.7j, 234: -7 - 5j, 454: 7 - 5j}
    points = mouth + zoom * np.array([layout[index] for index in range(468)])
    return Face(np.stack([points.real, points.imag], axis=1).astype(np.float32))
