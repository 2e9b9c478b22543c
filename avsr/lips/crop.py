"""The mouth, cut out so that it holds still while the head moves, tilts, comes near or goes away.

Scale and roll come from points that speech does not move (eye corners, nose); only the centre depends on the mouth, and
follows it slowly. So opening, rounding or closing the lips moves the lips inside the crop, not the crop.

Positions in pictures are complex numbers, x + iy: multiplying by one scales and turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from avsr.lips.landmarks import Face
from avsr.types import LIP_SIZE, ByteArray

ANCHOR_LAYOUT: dict[int, complex] = {
    33: -4.45 - 7.40j,  # outer corners of the eyes
    263: 4.45 - 7.40j,
    133: -1.73 - 7.26j,  # inner corners
    362: 1.73 - 7.26j,
    168: 0.0 - 7.88j,  # bridge of the nose, between the eyes
    6: 0.0 - 7.09j,
    98: -1.75 - 2.74j,  # wings of the nose
    327: 1.75 - 2.74j,
    2: 0.0 - 2.55j,  # base of the nose
}
"""FaceMesh point -> its place in a frontal face, cm from the middle of the mouth (median of 7 speakers)."""

CROP_PX_PER_CM = 8.2
"""Makes a resting mouth (about 4.9 cm) 42 % of the crop's width; the crop spans 11.7 cm, mid-nose to chin."""

# How the crop follows the face: in each tick it moves towards the measured pose, ``d`` crop pixels away, by the share
# max(floor, 1 - exp(-(d / knee)^2)). So jitter is averaged away, while real motion of any speed is followed within
# about ``knee`` pixels.
HEAD_FLOOR, HEAD_KNEE_PX = 0.25, 1.5
MOUTH_FLOOR, MOUTH_KNEE_PX = 0.05, 6.0


@dataclass(frozen=True, slots=True)
class Pose:
    """A similarity transform: source position = ``centre`` + ``zoom`` * (crop position - middle of the crop).

    ``zoom`` is source pixels per crop pixel, turned by the head's roll.
    """

    centre: complex
    zoom: complex


@dataclass(frozen=True, slots=True)
class CropState:
    """What smoothing remembers: the ``head`` pose, the mouth's ``offset`` in it (crop pixels), ticks seen so far."""

    head: Pose
    offset: complex
    num_ticks: int

    @property
    def pose(self) -> Pose:
        """Where the crop is taken."""
        return Pose(self.head.centre + self.head.zoom * self.offset, self.head.zoom)


def follow(face: Face, state: CropState | None) -> CropState:
    """Move the crop towards where ``face`` now is; ``state`` None begins a new face."""
    measured = head_pose(face)
    x, y = face.mouth_centre.tolist()
    offset = (complex(x, y) - measured.centre) / measured.zoom
    if state is None:
        return CropState(measured, offset, num_ticks=1)

    weight = _weight(_distance(state.head, measured), HEAD_FLOOR, HEAD_KNEE_PX)
    head = Pose(
        state.head.centre + weight * (measured.centre - state.head.centre),
        state.head.zoom + weight * (measured.zoom - state.head.zoom),
    )
    # A plain mean at first, so that one odd picture at the start does not linger.
    floor = max(MOUTH_FLOOR, 1 / (state.num_ticks + 1))
    weight = _weight(abs(offset - state.offset), floor, MOUTH_KNEE_PX)
    settled = math.ceil(1 / MOUTH_FLOOR)
    return CropState(head, state.offset + weight * (offset - state.offset), num_ticks=min(state.num_ticks + 1, settled))


def head_pose(face: Face) -> Pose:
    """Least-squares similarity from the canonical layout to the face's anchors (Umeyama 1991, in the plane)."""
    source = face.points[_ANCHORS].astype(np.float64) @ np.array([1, 1j])
    middle = source.mean()
    zoom = complex(np.vdot(_LAYOUT, source - middle) / np.vdot(_LAYOUT, _LAYOUT))
    return Pose(complex(middle) - zoom * _LAYOUT_MIDDLE, zoom)


def cut(rgb: ByteArray, pose: Pose) -> ByteArray:
    """Return the crop of ``rgb`` u8 (H, W, 3), gray u8 (96, 96); beyond the picture its edge pixels are repeated."""
    # Sampling at least as densely as the source and then averaging keeps large faces from aliasing.
    density = min(max(2, math.ceil(abs(pose.zoom))), _MAX_DENSITY)
    region, corner = _region(rgb, pose)
    zoom = pose.zoom / density
    origin = pose.centre - corner - zoom * (LIP_SIZE * density - 1) / 2 * (1 + 1j)
    crop_to_region = np.array([[zoom.real, -zoom.imag, origin.real], [zoom.imag, zoom.real, origin.imag]])
    gray = cv2.warpAffine(
        cv2.cvtColor(region, cv2.COLOR_RGB2GRAY),
        crop_to_region,
        (LIP_SIZE * density, LIP_SIZE * density),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(gray, (LIP_SIZE, LIP_SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


_ANCHORS = list(ANCHOR_LAYOUT)
_LAYOUT_PX = np.array(list(ANCHOR_LAYOUT.values())) * CROP_PX_PER_CM
_LAYOUT_MIDDLE = complex(_LAYOUT_PX.mean())
_LAYOUT = _LAYOUT_PX - _LAYOUT_MIDDLE
_MAX_DENSITY = 16
"""Samples per crop pixel and axis; enough for a face that fills 8K video."""


def _region(rgb: ByteArray, pose: Pose) -> tuple[ByteArray, complex]:
    """The part of the picture under the crop, at least one pixel, and its top left corner."""
    height, width = rgb.shape[:2]
    reach = (abs(pose.zoom.real) + abs(pose.zoom.imag)) * LIP_SIZE / 2 + 2
    left = min(max(math.floor(pose.centre.real - reach), 0), width - 1)
    top = min(max(math.floor(pose.centre.imag - reach), 0), height - 1)
    right = min(max(math.ceil(pose.centre.real + reach), left + 1), width)
    bottom = min(max(math.ceil(pose.centre.imag + reach), top + 1), height)
    return np.ascontiguousarray(rgb[top:bottom, left:right]), complex(left, top)


def _distance(a: Pose, b: Pose) -> float:
    """Upper bound of how far apart, in crop pixels of ``a``, two poses put a point within 24 pixels of the middle."""
    return (abs(b.centre - a.centre) + abs(b.zoom - a.zoom) * LIP_SIZE / 4) / abs(a.zoom)


def _weight(distance: float, floor: float, knee: float) -> float:
    return max(floor, 1 - math.exp(-((distance / knee) ** 2)))
