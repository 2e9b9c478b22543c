"""Frames of a talking head: the painted head, its mouth, its motion, the background and the camera."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from avsr.errors import InputError
from avsr.talker.face import FaceStyle
from avsr.talker.head import LEFT, NUM_LIDS, TOP, Head, blob, head_grid, head_slices, mix, paint_head, step
from avsr.talker.lips import JAW_DROP, MouthPainter
from avsr.talker.mouth import mouth_track
from avsr.talker.voices import Speech
from avsr.types import ByteArray, FloatArray

MIN_SIDE, MAX_SIDE = 96, 1920
_OVERSAMPLING = 2.0
"""Head pixels per picture pixel: enough for smooth edges."""
_MAX_UNIT_PX = 160.0
_GRID_PX = 8
"""Motion is smooth, so it is computed on a coarse grid of picture pixels and interpolated."""
_NUM_GRAINS = 8


def render(
    speech: Speech, face: FaceStyle, *, size: tuple[int, int] = (360, 288), fps: float = 25.0
) -> Iterator[ByteArray]:
    """Draw ``face`` saying ``speech``: rgb u8 (height, width, 3) frames, ``ceil(duration * fps)`` of them.

    ``size`` is (width, height), even numbers. The same arguments give the same frames, bit for bit.

    Raises:
        InputError: a size or frame rate that cannot be drawn.
    """
    width, height = size
    if not all(MIN_SIDE <= side <= MAX_SIDE and side % 2 == 0 for side in size):
        raise InputError(f"size {width}x{height}: both sides must be even and from {MIN_SIDE} to {MAX_SIDE} pixels")
    if not 5 <= fps <= 120:
        raise InputError(f"{fps} frames a second: choose 5 to 120")
    return _frames(speech, face, width, height, fps)


def _frames(speech: Speech, face: FaceStyle, width: int, height: int, fps: float) -> Iterator[ByteArray]:
    track = mouth_track(speech, fps)
    rng = np.random.default_rng([face.seed, 5])
    face_px = face.zoom * min(width, 1.25 * height)
    head = paint_head(face, min(_OVERSAMPLING * face_px / 2, _MAX_UNIT_PX))
    mouth = MouthPainter(face, head.unit_px, _light_at_mouth(face, head))
    room = _room(face, width, height, face_px, rng)
    poses = _poses(speech, face, len(track), fps, rng)
    lids = _lids(len(track), fps, rng)
    grains = [rng.normal(0, face.noise, (height, width, 3)).astype(np.float32) for _ in range(_NUM_GRAINS)]
    camera = _Camera(face, head, width, height, face_px)
    jaw_map = _JawMap(face, head)
    for index, shape in enumerate(track):
        picture = head.rgba.copy()
        picture[head.eye_rows, head.eye_cols, :3] = head.eyes[lids[index]]
        jaw_map.drop(picture, shape.jaw)
        mouth.paint(picture, shape)
        seen = camera.shoot(picture, poses[index])
        rgb = room * (1 - seen[..., 3:] / 255) + seen[..., :3]
        rgb = cv2.GaussianBlur(rgb, (0, 0), face.blur_px)
        rgb = rgb * face.gain + np.roll(grains[index % _NUM_GRAINS], index * 37, axis=1)
        yield np.clip(rgb + 0.5, 0, 255).astype(np.uint8)


class _JawMap:
    """Warps the lower face down with the jaw: most at the chin, not at all above the mouth."""

    def __init__(self, face: FaceStyle, head: Head) -> None:
        unit = head.unit_px
        still_y = face.nose_y + 0.06
        self._rows = slice(round((still_y - TOP) * unit), None)
        x, y = (coordinate[self._rows] for coordinate in head_grid(unit))
        rows, cols = np.indices(x.shape, np.float32)
        self._from_rows, self._from_cols = rows, cols
        down = np.clip((y - still_y) / (face.chin_y - still_y), 0, 1)
        reach = step(1.05 - np.abs(x), 0.25) * down**1.4
        self._pull = (JAW_DROP * unit * reach).astype(np.float32)

    def drop(self, picture: FloatArray, jaw: float) -> None:
        """Open the jaw of ``picture`` by ``jaw`` 0..1, in place."""
        lower = picture[self._rows]
        moved = cv2.remap(lower, self._from_cols, self._from_rows - jaw * self._pull, cv2.INTER_LINEAR)
        lower[:] = moved


class _Camera:
    """Projects the head into the picture: scale, position and roll; yaw and pitch are shifts in proportion to depth."""

    def __init__(self, face: FaceStyle, head: Head, width: int, height: int, face_px: float) -> None:
        self._head, self._width, self._height = head, width, height
        self._scale_px = face_px / 2
        self._centre = ((0.5 + face.place[0]) * width, (0.5 + face.place[1]) * height)
        cols, rows = width // _GRID_PX + 2, height // _GRID_PX + 2
        self._grid = np.meshgrid(
            np.arange(cols) * _GRID_PX - 0.5 * _GRID_PX, np.arange(rows) * _GRID_PX - 0.5 * _GRID_PX
        )

    def shoot(self, picture: FloatArray, pose: FloatArray) -> FloatArray:
        """Project ``picture`` in ``pose`` (x, y, log scale, roll, yaw, pitch) to f32 (height, width, 4)."""
        shift_x, shift_y, log_scale, roll, yaw, pitch = map(float, pose)
        scale = self._scale_px * np.exp(log_scale)
        dx = (self._grid[0] - self._centre[0]) / scale - shift_x
        dy = (self._grid[1] - self._centre[1]) / scale - shift_y
        x = np.cos(roll) * dx + np.sin(roll) * dy
        y = np.cos(roll) * dy - np.sin(roll) * dx
        unit = self._head.unit_px
        to_cols, to_rows = (x - LEFT) * unit - 0.5, (y - TOP) * unit - 0.5
        depth = cv2.remap(self._head.depth, to_cols.astype(np.float32), to_rows.astype(np.float32), cv2.INTER_LINEAR)
        # Turning the head shifts its near parts one way and its outline, at depth 0, a little the other way.
        to_cols -= np.sin(yaw) * (depth - 0.3) * unit
        to_rows -= np.sin(pitch) * (depth - 0.3) * unit
        maps = [self._upsample(coarse) for coarse in (to_cols, to_rows)]
        return np.asarray(cv2.remap(picture, maps[0], maps[1], cv2.INTER_LINEAR), np.float32)

    def _upsample(self, coarse: FloatArray) -> FloatArray:
        size = (coarse.shape[1] * _GRID_PX, coarse.shape[0] * _GRID_PX)
        # Coarse node i lies at pixel 8 i - 4: the centre of its block once the first block has been cut off.
        fine = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(fine[_GRID_PX : _GRID_PX + self._height, _GRID_PX : _GRID_PX + self._width], np.float32)


def _light_at_mouth(face: FaceStyle, head: Head) -> float:
    around = head.rgba[head_slices(head.unit_px, -0.25, face.mouth_y - 0.25, 0.25, face.mouth_y + 0.25)]
    return float(np.clip((around[..., :3].mean(axis=(0, 1)) / np.array(face.skin)).mean(), 0.4, 1.15))


def _poses(speech: Speech, face: FaceStyle, num_frames: int, fps: float, rng: np.random.Generator) -> FloatArray:
    """Slow sway around the mean pose, and nods with the loudness: f32 (num_frames, 6), for ``_Camera.shoot``."""
    times_s = np.arange(num_frames) / fps
    mean = np.array((0, 0, 0, np.deg2rad(face.roll_deg), face.yaw, face.pitch))
    extent = np.array((0.06, 0.035, 0.015, 0.025, 0.09, 0.05)) * face.motion
    sway = sum(
        np.sin(2 * np.pi * (rate * times_s[:, None] + rng.random(6))) * share
        for rate, share in ((rng.uniform(0.1, 0.3), 0.6), (rng.uniform(0.4, 0.7), 0.3), (rng.uniform(0.9, 1.4), 0.1))
    )
    hop = round(len(speech.samples) / max(num_frames, 1))
    padded = np.pad(np.abs(speech.samples), (0, hop * num_frames))
    loudness = padded[: hop * num_frames].reshape(num_frames, hop).mean(axis=1)
    nod = cv2.GaussianBlur(loudness[None].astype(np.float32), (0, 0), fps * 0.16)[0]
    poses = mean + extent * sway
    poses[:, 5] += 0.5 * face.motion * nod
    poses[:, 1] += 0.3 * face.motion * nod
    return np.asarray(poses, np.float32)


def _lids(num_frames: int, fps: float, rng: np.random.Generator) -> list[int]:
    """Lid stage of every frame: a blink of about 0.3 s every few seconds."""
    openness = np.ones(num_frames)
    time_s = rng.uniform(0.3, 3.0)
    while time_s < num_frames / fps:
        away_s = np.abs(np.arange(num_frames) / fps - time_s)
        openness = np.minimum(openness, np.clip((away_s - 0.03) / 0.1, 0, 1))
        time_s += rng.uniform(1.5, 5.0)
    return [round((1 - value) * (NUM_LIDS - 1)) for value in openness.tolist()]


def _room(face: FaceStyle, width: int, height: int, face_px: float, rng: np.random.Generator) -> FloatArray:
    """The static background: the wall, the speaker's neck and shoulders; f32 (height, width, 3)."""
    x, y = np.meshgrid(np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32))
    wall = cv2.GaussianBlur(_wall(face, x, y, rng), (0, 0), rng.uniform(0.01, 0.03) * width)
    # The body is drawn in face units around the mean position of the face.
    from_face_x = (x - 0.5 - face.place[0]) * width / (face_px / 2)
    from_face_y = (y - 0.5 - face.place[1]) * height / (face_px / 2)
    return _body(face, from_face_x, from_face_y, np.asarray(wall, np.float32))


def _wall(face: FaceStyle, x: FloatArray, y: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A wall, lit from the side, with a few rectangles on it; ``x`` and ``y`` run from 0 to 1 over the picture."""
    near, far = (np.array(colour, np.float32) for colour in face.background)
    along = np.clip(0.5 + (x - 0.5) * face.light[0] + (0.5 - y) * 0.6, 0, 1)
    wall = far + (near - far) * along[..., None]
    for _ in range(int(rng.integers(0, 6))):
        colour = wall.mean(axis=(0, 1)) * rng.uniform(0.5, 1.3) + rng.normal(0, 18, 3)
        cx, cy, w, h = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.25), rng.uniform(0.05, 0.4)
        box = step(w - np.abs(x - cx), 0.02) * step(h - np.abs(y - cy), 0.02)
        wall = mix(wall, colour.astype(np.float32), box)
    return np.asarray(wall, np.float32)


def _body(face: FaceStyle, fx: FloatArray, fy: FloatArray, wall: FloatArray) -> FloatArray:
    """Neck and shoulders in front of ``wall``; ``fx`` and ``fy`` in face units."""
    lx = face.light[0]
    side = np.clip(0.8 + 0.35 * lx * fx, 0.3, 1.3)
    neck_width = 0.56 + 0.12 * np.clip((fy - 1.2) / 0.6, 0, 1) ** 2
    round_neck = np.sqrt(np.clip(1 - (fx / (neck_width * 1.15)) ** 2, 0.05, 1))
    under_chin = 1 - 0.45 * blob(fx, fy, 0.1 * lx, face.chin_y + 0.02, 0.7, 0.28)
    neck_light = (0.42 + 0.76 * round_neck * side * face.ambient) * under_chin
    neck = np.array(face.skin, np.float32) * neck_light[..., None]
    rgb = mix(wall, neck, step(neck_width - np.abs(fx), 0.02) * step(fy - 0.4, 0.1))
    collar = 1.72 - 0.32 * np.clip(np.abs(fx) / 0.6, 0, 1) ** 2 + 0.12 * np.clip(np.abs(fx) - 0.6, 0, None) ** 1.2
    shoulders = 0.34 * np.clip(np.abs(fx) - 1.3, 0, None) ** 1.6
    folds = 1 + 0.06 * np.sin(5 * fx + 3 * fy + face.seed) + 0.05 * np.sin(9 * fx - 5 * fy)
    cloth = np.array(face.shirt, np.float32) * (np.clip(0.75 + 0.18 * lx * fx - 0.06 * fy, 0.3, 1.2) * folds)[..., None]
    rim = 1 - 0.4 * blob(fy - collar - shoulders, fx * 0, 0.06, 0, 0.03, 1)
    return mix(rgb, cloth * rim[..., None], step(fy - collar - shoulders, 0.03))
