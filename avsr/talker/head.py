"""The static head: one face painted once, as a lit height map; its eyes are painted once per stage of a blink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from avsr.talker.face import FaceStyle, Rgb
from avsr.types import FloatArray

LEFT, TOP, RIGHT, BOTTOM = -1.55, -1.75, 1.55, 2.0
"""The area that a head picture covers, face units."""
NUM_LIDS = 5
"""Stages of a blink, from open to shut."""
_RELIEF_DEPTH = 0.85


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A painted head without a mouth.

    ``rgba`` f32 (H, W, 4) in 0..255, premultiplied alpha, covers LEFT..RIGHT by TOP..BOTTOM at ``unit_px`` pixels per
    face unit; ``eyes`` has one (h, w, 3) patch per lid stage, for rows ``eye_rows`` and columns ``eye_cols``; ``depth``
    f32 (H, W) is the smoothed height towards the camera in face units, 0 outside the head.
    """

    rgba: FloatArray
    eyes: tuple[FloatArray, ...]
    eye_rows: slice
    eye_cols: slice
    depth: FloatArray
    unit_px: float


def paint_head(face: FaceStyle, unit_px: float) -> Head:
    """Paint ``face`` at ``unit_px`` pixels per face unit."""
    rng = np.random.default_rng([face.seed, 3])
    x, y = head_grid(unit_px)
    radius = _head_radius(face, x, y)
    depth = _relief(face, x, y, radius)
    light = _lighting(face, depth, unit_px)
    skin = _skin(face, x, y, light, unit_px, rng)
    strands = _strands(x, y, rng)

    alpha = step(1.0 - radius, 0.012)
    ears = _ear_mask(face, x, y)
    hair = _hair_colour(face, x, y, strands)
    behind = _hair_behind(face, x, y, strands)
    rgb = mix(np.zeros_like(skin), hair * 0.72, behind)
    rgb = mix(rgb, _ears(face, x, y), ears)
    rgb = mix(rgb, skin, alpha)
    front = _hair_front(face, x, y, strands)
    # Hair casts a soft shadow on the skin below it.
    shadow = cv2.GaussianBlur(np.roll(front, round(0.05 * unit_px), axis=0), (0, 0), 0.06 * unit_px) * (1 - front)
    rgb = rgb * (1 - 0.4 * shadow[..., None])
    rgb = mix(rgb, hair, front)
    cover = np.max([behind, ears, alpha, front], axis=0)

    reach = face.eye_x + 0.32
    rows, cols = head_slices(unit_px, -reach, face.eye_y - 0.2, reach, face.eye_y + 0.2)
    eyes = tuple(
        _eyes(face, x[rows, cols], y[rows, cols], rgb[rows, cols], 1 - stage / (NUM_LIDS - 1))
        for stage in range(NUM_LIDS)
    )
    rgba = np.concatenate([rgb * cover[..., None], 255 * cover[..., None]], axis=2)
    smooth = cv2.GaussianBlur(depth * alpha, (0, 0), 0.06 * unit_px)
    return Head(rgba.astype(np.float32), eyes, rows, cols, smooth.astype(np.float32), unit_px)


def head_grid(unit_px: float) -> tuple[FloatArray, FloatArray]:
    """Face coordinates (x, y) of every pixel of a head picture, each f32 (H, W)."""
    xs = LEFT + (np.arange(round((RIGHT - LEFT) * unit_px), dtype=np.float32) + 0.5) / unit_px
    ys = TOP + (np.arange(round((BOTTOM - TOP) * unit_px), dtype=np.float32) + 0.5) / unit_px
    x, y = np.meshgrid(xs, ys)
    return x.astype(np.float32), y.astype(np.float32)


def head_slices(unit_px: float, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
    """Rows and columns of a head picture that cover a box in face units."""
    rows = slice(round((top - TOP) * unit_px), round((bottom - TOP) * unit_px))
    return rows, slice(round((left - LEFT) * unit_px), round((right - LEFT) * unit_px))


def step(value: npt.NDArray[Any], softness: float) -> FloatArray:
    """Smoothstep from 0 to 1 around zero, ``softness`` wide on either side."""
    ramp = np.clip(value / (2 * softness) + 0.5, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def mix(under: FloatArray, over: FloatArray | Rgb, alpha: FloatArray) -> FloatArray:
    """Alpha-blend ``over`` onto ``under``; ``alpha`` (H, W) in 0..1."""
    return np.asarray(under + (np.asarray(over, np.float32) - under) * alpha[..., None], np.float32)


def blob(x: FloatArray, y: FloatArray, cx: float, cy: float, sx: float, sy: float) -> FloatArray:
    """A Gaussian bump of height 1."""
    return np.asarray(np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2)), np.float32)


def _head_radius(face: FaceStyle, x: FloatArray, y: FloatArray) -> FloatArray:
    """0 at the centre of the head, 1 on its outline."""
    below = np.clip(y / face.chin_y, 0, None)
    half_width = 1 - face.jaw_taper * below**1.5
    power = np.where(y > 0, face.jaw_power, 2.15)
    reach = np.where(y > 0, face.chin_y, -face.crown_y)
    return np.asarray(((np.abs(x) / half_width) ** power + (np.abs(y) / reach) ** power) ** (1 / power), np.float32)


def _relief(face: FaceStyle, x: FloatArray, y: FloatArray, radius: FloatArray) -> FloatArray:
    """Height of the skin towards the camera, face units."""
    depth = _RELIEF_DEPTH * np.sqrt(np.clip(1 - radius**2.4, 0, 1))
    ax = np.abs(x)
    nose_y, eye_y = face.nose_y, face.eye_y
    # Bridge: a ridge that rises towards the tip.
    along = np.clip((y - eye_y) / (nose_y - eye_y), 0, 1)
    ridge = (
        np.exp(-0.5 * (x / (0.055 + 0.05 * along)) ** 2) * step(y - eye_y + 0.02, 0.12) * step(nose_y - 0.02 - y, 0.06)
    )
    depth += (0.06 + 0.2 * along) * ridge
    depth += 0.12 * blob(x, y, 0, nose_y - 0.05, 0.1, 0.08)
    depth += 0.1 * blob(ax, y, face.nose_width * 0.72, nose_y - 0.01, 0.055, 0.055)
    # Eye sockets, brows, cheekbones, area of the mouth, chin.
    depth -= 0.11 * blob(ax, y, face.eye_x - 0.03, eye_y - 0.03, 0.2, 0.11)
    depth += 0.045 * blob(ax, y, face.eye_x, eye_y, 0.13, 0.08)
    depth += 0.06 * blob(ax, y, face.eye_x - 0.04, face.eye_y + face.brow_y, 0.24, 0.07)
    depth += 0.07 * blob(ax, y, 0.6, 0.28, 0.2, 0.14)
    depth += 0.07 * blob(x, y, 0, face.mouth_y, 0.34, 0.24)
    depth -= 0.045 * blob(x, y, 0, face.mouth_y + 0.27, 0.24, 0.055)
    depth += 0.08 * blob(x, y, 0, face.chin_y - 0.2, 0.2, 0.13)
    depth -= 0.022 * blob(x, y, 0, face.mouth_y - 0.2, 0.035, 0.09)
    # Nasolabial fold: from beside the nose down to beside the mouth.
    fold_x = face.nose_width + 0.08 + 0.42 * np.clip(y - nose_y + 0.05, 0, None)
    fold = np.exp(-0.5 * ((ax - fold_x) / 0.035) ** 2) * step(y - nose_y + 0.02, 0.08) * step(face.mouth_y - y, 0.12)
    return np.asarray(depth - 0.016 * fold, np.float32)


def _lighting(face: FaceStyle, depth: FloatArray, unit_px: float) -> FloatArray:
    """Light reflected at each pixel, about 1 where it faces the lamp; f32 (H, W, 3), with slightly warm shadows."""
    soft = cv2.GaussianBlur(depth, (0, 0), 0.018 * unit_px)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=unit_px / 8), cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=unit_px / 8)
    length = np.sqrt(dx * dx + dy * dy + 1)
    lx, ly, lz = face.light
    facing = (-dx * lx - dy * ly + lz) / length
    # Wrapped Lambert shading: skin scatters light past the edge of the shadow.
    diffuse = np.clip((facing + 0.35) / 1.35, 0, 1)
    shine = np.clip((-dx * lx - dy * ly + (lz + 1)) / length / np.sqrt(2 * (1 + lz)), 0, 1) ** 24
    brightness = face.ambient + (1 - face.ambient) * 1.25 * diffuse
    warm = np.array((1.0, 1.12, 1.22), np.float32)
    return np.asarray(brightness[..., None] ** warm + 0.1 * shine[..., None], np.float32)


def _skin(
    face: FaceStyle, x: FloatArray, y: FloatArray, light: FloatArray, unit_px: float, rng: np.random.Generator
) -> FloatArray:
    ax = np.abs(x)
    tone = np.ones((*x.shape, 3), np.float32) * np.array(face.skin, np.float32)
    red = np.array((1.0, 0.72, 0.7), np.float32) * np.array(face.skin, np.float32)
    tone = mix(
        tone, red, face.cheeks * blob(ax, y, 0.58, 0.4, 0.24, 0.2) + 0.25 * blob(x, y, 0, face.nose_y, 0.14, 0.1)
    )
    dusk = np.array((0.74, 0.62, 0.6), np.float32) * np.array(face.skin, np.float32)
    tone = mix(tone, dusk, 0.4 * blob(ax, y, face.eye_x - 0.02, face.eye_y, 0.2, 0.11))
    # Nostrils and the wings of the nose.
    nose_y = face.nose_y
    tone = mix(tone, dusk * 0.35, 0.85 * blob(ax, y, face.nose_width * 0.42, nose_y + 0.035, 0.038, 0.02))
    tone = mix(tone, dusk * 0.7, 0.45 * blob(ax, y, face.nose_width * 1.02, nose_y + 0.01, 0.02, 0.05))
    tone = mix(tone, dusk * 0.8, 0.4 * blob(x, y, 0, nose_y + 0.075, 0.13, 0.03))
    # Brows: a tapering stroke with a ragged edge.
    along = (ax - face.eye_x + 0.24) / 0.5
    brow_y = face.eye_y + face.brow_y - face.brow_tilt * 2 * along + 0.16 * (along - 0.45) ** 2
    thick = face.brow_weight * np.clip(1.15 - 0.75 * along, 0.1, 1) * step(along, 0.06) * step(1 - along, 0.1)
    ragged = 1 + 0.16 * _noise(x.shape, rng, 0.012 * unit_px)
    brow = step(thick * ragged - np.abs(y - brow_y), 0.02) * step(thick - 0.006, 0.006)
    tone = mix(tone, np.array(face.hair, np.float32) * 0.75, 0.8 * brow)
    if face.beard > 0:
        jaw = step(y - face.nose_y - 0.14 - 0.5 * blob(ax, y, 0.5, face.nose_y, 0.16, 1.0), 0.12)
        bare = blob(x, y, 0, face.mouth_y, 0.3, 0.09)
        stubble = np.clip(face.beard * jaw * (1 - bare) * (1 + 0.35 * _noise(x.shape, rng, 0.012 * unit_px)), 0, 0.9)
        tone = mix(tone, np.array(face.hair, np.float32) * 0.8, stubble.astype(np.float32))
    blotches = 1 + 0.02 * _noise(x.shape, rng, 0.08 * unit_px) + 0.012 * _noise(x.shape, rng, 0.01 * unit_px)
    return np.asarray(tone * light * blotches[..., None], np.float32)


def _noise(shape: tuple[int, ...], rng: np.random.Generator, sigma_px: float) -> FloatArray:
    """Smooth noise of standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma_px)
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)


def _strands(x: FloatArray, y: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A texture of hair strands that run away from the crown; standard deviation about 1."""
    source = cv2.GaussianBlur(rng.standard_normal((256, 1024)).astype(np.float32), (0, 0), sigmaX=1.6, sigmaY=30.0)
    angle = (np.arctan2(x, y + 1.3) / (2 * np.pi) + 0.5) * 1023
    away = np.clip(np.hypot(x, y + 1.3) * 90, 0, 255)
    strands = cv2.remap(source, angle.astype(np.float32), away.astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(strands / max(float(strands.std()), 1e-6), np.float32)


def _hair_colour(face: FaceStyle, x: FloatArray, y: FloatArray, strands: FloatArray) -> FloatArray:
    lx, ly, _ = face.light
    sheen = 0.35 * blob(x, y, 0.5 * lx, -1.15 - 0.1 * ly, 0.6, 0.16)
    shade = np.clip(0.85 + 0.14 * strands + sheen + 0.2 * (lx * x - 0.4 * (y + 0.6)), 0.3, 1.8)
    return np.asarray(shade[..., None] * np.array(face.hair, np.float32), np.float32)


def _hair_outline(face: FaceStyle, x: FloatArray, y: FloatArray) -> FloatArray:
    """Positive inside the outline of the hair around the skull."""
    wide = face.hair_volume
    skull = 1 - np.hypot(x / wide, np.minimum(y, 0) / (-face.crown_y * (0.35 + 0.65 * wide)))
    return np.asarray(skull, np.float32)


def _hair_behind(face: FaceStyle, x: FloatArray, y: FloatArray, strands: FloatArray) -> FloatArray:
    outline = _hair_outline(face, x, y) + 0.012 * strands
    return step(np.minimum(outline, (face.hair_length - y) * 0.6 + 0.03 * strands), 0.03)


def _hair_front(face: FaceStyle, x: FloatArray, y: FloatArray, strands: FloatArray) -> FloatArray:
    """Coverage of the hair in front of the forehead and temples."""
    line_y = face.hairline_y + 0.28 * np.abs(x) ** 3 + 0.06 * np.sin(2.5 * x + face.seed)
    temple = 0.93 - 0.1 * step(y + 0.5, 0.3) * (face.hair_length > 0.2)
    beside = np.minimum(np.abs(x) - temple, face.hair_length - 0.02 - y)
    inside = np.maximum(line_y - y, beside) + 0.018 * strands
    return step(np.minimum(inside, _hair_outline(face, x, y) + 0.012 * strands), 0.02)


def _ear_mask(face: FaceStyle, x: FloatArray, y: FloatArray) -> FloatArray:
    return step(1 - np.hypot((np.abs(x) - 0.99) / 0.12, (y - 0.08) / 0.27), 0.05)


def _ears(face: FaceStyle, x: FloatArray, y: FloatArray) -> FloatArray:
    ax = np.abs(x)
    lx, _, _ = face.light
    hollow = blob(ax, y, 1.02, 0.06, 0.035, 0.13)
    shade = (face.ambient + 0.35 * (1 + np.sign(x) * lx)) * (1 - 0.35 * hollow) * 0.92
    red = np.array((1.0, 0.86, 0.82), np.float32) * np.array(face.skin, np.float32)
    return np.asarray(shade[..., None] * red, np.float32)


def _eyes(face: FaceStyle, x: FloatArray, y: FloatArray, skin: FloatArray, openness: float) -> FloatArray:
    """Paint the eye region with the lids at ``openness`` 0..1."""
    across = (np.abs(x) - face.eye_x) / face.eye_width
    arch = np.clip(1 - across**2, 0, 1)
    tilt = -0.02 * across
    upper_open = -face.eye_height * arch**0.7
    lower = 0.55 * face.eye_height * arch**0.9
    upper = lower + (upper_open - lower) * (0.06 + 0.94 * openness) if openness > 0 else lower - 0.008
    height = y - face.eye_y - tilt
    soft = 0.012
    inside = step(height - upper, soft) * step(lower - height, soft) * step(1 - np.abs(across), 0.08)
    # The eyeball: white, iris with a dark rim, pupil, a highlight, and the lid's shadow.
    white = np.ones_like(skin) * np.array((226, 220, 216), np.float32) * (0.62 + 0.42 * face.ambient)
    white = white * (1 - 0.3 * np.clip(np.abs(across), 0, 1)[..., None] ** 2)
    size = face.eye_height * 1.02
    distance = np.hypot(np.abs(x) - face.eye_x, height + 0.01)
    ball = mix(white, np.array(face.iris, np.float32) * 0.45, step(size - distance, soft))
    ball = mix(ball, face.iris, step(size * 0.82 - distance, soft * 1.5))
    ball = mix(ball, (14, 12, 12), step(size * 0.42 - distance, soft))
    glint = np.hypot(x - np.sign(x) * face.eye_x - 0.03 * np.sign(face.light[0]), height + 0.035)
    ball = mix(ball, (250, 250, 250), 0.9 * step(0.018 - glint, soft))
    ball = ball * (1 - 0.45 * step(upper + 0.025 - height, 0.03)[..., None])
    lid = np.array(face.skin, np.float32) * (0.55 + 0.4 * face.ambient)
    crease = np.exp(-0.5 * ((height - upper_open + 0.04) / 0.012) ** 2) * step(1.05 - np.abs(across), 0.12)
    rgb = mix(skin, lid * 0.62, 0.5 * crease)
    covered = step(height - upper_open + 0.02, soft * 2) * step(lower - height, soft) * step(1 - np.abs(across), 0.08)
    rgb = mix(rgb, lid, 0.6 * covered * (1 - openness))
    rgb = mix(rgb, ball, inside)
    lashes = np.exp(-0.5 * ((height - upper) / 0.014) ** 2) * step(1.08 - np.abs(across), 0.06)
    rgb = mix(rgb, np.array(face.hair, np.float32) * 0.35, 0.85 * np.asarray(lashes, np.float32))
    rim = np.exp(-0.5 * ((height - lower) / 0.012) ** 2) * step(1 - np.abs(across), 0.08)
    return mix(rgb, lid * 0.55, 0.35 * np.asarray(rim, np.float32))
