"""What happens to pictures of a mouth: u8 (T, 96, 96) in, the same out. None of these changes what it is given."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from avsr.types import ByteArray

LONGEST_FREEZE_TICKS = 4
LONGEST_COVER_TICKS = 15
"""0.6 s: a hand before the mouth, a turn of the head."""

BEND_POINTS = 4
"""Control points of a face on each side of the crop."""

Affine = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]


def random_turn(
    side: int, rng: np.random.Generator, *, shift_px: float, zoom: float, roll_deg: float, mirror_share: float
) -> Affine:
    """Draw one place of the crop, (2, 3): moved, zoomed and rolled by up to so much, and mirrored so often."""
    scale = 1 + rng.uniform(-1, 1) * zoom
    rolled = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-1, 1) * roll_deg, scale)
    turn: Affine = rolled + np.array([[0.0, 0, 1], [0, 0, 1]]) * rng.uniform(-1, 1, size=(2, 1)) * shift_px
    if rng.random() < mirror_share:
        turn = turn @ np.array([[-1, 0, side - 1], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
    return turn


def random_light(rng: np.random.Generator, strength: float) -> ByteArray:
    """Draw one light: the level, u8 (256,), that each level becomes; contrast and brightness change by ``strength``."""
    gain = 1 + rng.uniform(-1, 1) * strength
    offset = 255 * rng.uniform(-0.5, 0.5) * strength
    return np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)


def turn_and_light(lips: ByteArray, turn: Affine, levels: ByteArray) -> ByteArray:
    """See every picture from ``turn`` and in the light of ``levels``; edges go on."""
    side = lips.shape[1]
    warped = [cv2.warpAffine(lip, turn, (side, side), borderMode=cv2.BORDER_REPLICATE) for lip in lips]
    turned: ByteArray = levels[np.stack(warped)] if warped else lips.copy()
    return turned


def random_bend(side: int, rng: np.random.Generator, most_px: float) -> Field:
    """Draw another face: how far off, pixels right and down, lies what each place of it shows, (side, side, 2).

    A few control points are up to ``most_px`` off, and all between them smoothly with them (a cubic may swing a third
    further): mouths get wide, narrow, full, thin and crooked.
    """
    points = rng.uniform(-1, 1, size=(BEND_POINTS, BEND_POINTS, 2)) * rng.uniform(0, most_px)
    moves: Field = cv2.resize(points, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return moves


def bend(lips: ByteArray, moves: Field) -> ByteArray:
    """Show at each place what lies ``moves`` from it, alike in every picture; edges go on."""
    along = np.arange(lips.shape[1], dtype=np.float32)
    right, down = moves[..., 0] + along, moves[..., 1] + along[:, None]
    bent = [cv2.remap(lip, right, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for lip in lips]
    moved: ByteArray = np.stack(bent) if bent else lips.copy()
    return moved


def random_shade(side: int, rng: np.random.Generator, strength: float) -> Field:
    """Draw light from one side: gains (side, side), 1 in the middle, up to ``strength`` more or less at an edge.

    Where it comes from a corner, they change by 1.4 times that there.
    """
    across = np.linspace(-1, 1, side)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, strength)
    gains: Field = (1 + slope * (np.cos(angle) * across + np.sin(angle) * across[:, None])).astype(np.float32)
    return gains


def shade(lips: ByteArray, gains: Field) -> ByteArray:
    """Light every picture by ``gains``; what would be brighter than white is white, and darker than black black."""
    lit: ByteArray = np.clip(lips * gains + np.float32(0.5), 0, 255).astype(np.uint8)
    return lit


def blur(lips: ByteArray, sigma_px: float) -> ByteArray:
    """Put the camera out of focus: a Gaussian of ``sigma_px``."""
    if sigma_px <= 0 or not len(lips):
        return lips.copy()
    blurred: ByteArray = np.stack([cv2.GaussianBlur(lip, (0, 0), sigma_px) for lip in lips])
    return blurred


def freeze(lips: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Hold one picture for 1 to 4 ticks more, as a camera does that stalls."""
    out = lips.copy()
    first, last = _span(len(lips), LONGEST_FREEZE_TICKS, rng)
    out[first:last] = lips[max(0, first - 1)]
    return out


def cover(lips: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Hide the mouth behind an even gray for 1 to 15 ticks: nothing tells that it is not seen."""
    out = lips.copy()
    first, last = _span(len(lips), LONGEST_COVER_TICKS, rng)
    out[first:last] = round(float(lips.mean()))
    return out


def drop_pictures(lips: ByteArray, share: float, rng: np.random.Generator) -> ByteArray:
    """Lose so many of the pictures on the way; in their place the ones before stay on."""
    kept = rng.random(len(lips)) >= share
    shown = np.maximum.accumulate(np.where(kept, np.arange(len(lips)), 0))
    left: ByteArray = lips[shown]
    return left


def late(num_ticks: int, late_ticks: int) -> npt.NDArray[np.int64]:
    """Return which of ``num_ticks`` ticks is shown at each when pictures come ``late_ticks`` late (or early: < 0)."""
    return np.clip(np.arange(num_ticks) - late_ticks, 0, max(0, num_ticks - 1))


def _span(num_ticks: int, longest: int, rng: np.random.Generator) -> tuple[int, int]:
    length = int(rng.integers(1, longest + 1))
    first = int(rng.integers(0, max(1, num_ticks - length)))
    return first, first + length
