"""Painting the mouth: lips, teeth, tongue and the dark cavity behind them, for one mouth shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avsr.talker.face import FaceStyle
from avsr.talker.head import blob, head_grid, head_slices, mix, step
from avsr.talker.visemes import MouthShape
from avsr.types import FloatArray

JAW_DROP = 0.24
"""How far the chin drops when the jaw is wide open, face units."""
_GAP = 0.44
"""Distance between the lips at ``gap`` 1, face units."""
_UPPER_SHARE = 0.26
"""The upper lip's share of the gap; the rest is the lower lip's, which moves with the jaw."""
_HALF_WIDTH, _ABOVE, _BELOW = 0.62, 0.34, 0.66
"""Extent of the painted patch around the centre of the mouth, face units."""


@dataclass(frozen=True, slots=True, eq=False)
class LipLines:
    """Edges of the lips over columns at ``x`` (face units, f32 (W,)), as heights below the resting mouth line.

    From top to bottom: ``upper_outer``, ``upper_inner``, ``lower_inner``, ``lower_outer``. ``half_width`` is half of
    the mouth's width.
    """

    x: FloatArray
    upper_outer: FloatArray
    upper_inner: FloatArray
    lower_inner: FloatArray
    lower_outer: FloatArray
    half_width: float


def lip_lines(face: FaceStyle, shape: MouthShape, x: FloatArray) -> LipLines:
    """Return the lip edges of ``face`` in ``shape``; in columns outside of the mouth all four lines coincide."""
    half_width = face.mouth_width * (1 + 0.17 * shape.width - 0.17 * shape.rounding)
    s = np.clip(np.abs(x) / half_width, 0, 1)
    gap = _GAP * shape.gap
    drop = 0.5 * JAW_DROP * shape.jaw
    # Corners sink with the jaw and lift a little when spread; a lip at rest bows slightly.
    line = (
        drop * (0.25 + 0.3 * s**2)
        - (0.012 + 0.02 * max(shape.width, 0.0)) * s**2
        + 0.012 * np.cos(2 * np.pi * s) * (1 - s)
    )
    hole = np.clip(1 - (s / (0.96 - 0.2 * shape.rounding)) ** (2.4 - 0.5 * shape.rounding), 0, 1) ** 0.75
    upper_inner = line - (_UPPER_SHARE * gap + 0.018 * shape.teeth * (shape.gap > 0.05)) * hole
    lower_inner = line + (1 - _UPPER_SHARE) * gap * hole
    full = (1 + 0.3 * shape.rounding) * (1 - 0.45 * shape.press)
    body = np.clip(1 - s ** (2.2 + shape.rounding), 0, 1) ** (1 - 0.35 * shape.rounding)
    bow = 0.2 * blob(s, s, 0.26, 0.26, 0.22, 0.22) - 0.22 * blob(s, s, 0, 0, 0.16, 0.16)
    arch = np.clip(1 - s**1.6, 0, 1) * (1 + bow * (1 - 0.6 * shape.rounding))
    upper_outer = upper_inner - face.upper_lip * full * (1 - 0.18 * shape.gap) * arch
    lower_outer = lower_inner + face.lower_lip * full * (1 - 0.12 * shape.gap) * (1 - 0.5 * shape.tuck) * body
    return LipLines(x, upper_outer, upper_inner, lower_inner, lower_outer, half_width)


class MouthPainter:
    """Paints mouths onto one face; holds what does not change between frames."""

    def __init__(self, face: FaceStyle, unit_px: float, light: float) -> None:
        """``light`` is the brightness of the skin around the mouth relative to ``face.skin``."""
        self._face = face
        self._light = light
        middle = face.mouth_y
        self._patch = head_slices(unit_px, -_HALF_WIDTH, middle - _ABOVE, _HALF_WIDTH, middle + _BELOW)
        x, y = head_grid(unit_px)
        self._x, self._y = x[self._patch], y[self._patch] - middle
        self._soft = 0.9 / unit_px
        rng = np.random.default_rng([face.seed, 4])
        creases = np.convolve(rng.standard_normal(self._x.shape[1]), np.ones(3) / 3, "same")
        self._creases = (1 + 0.05 * creases)[None, :, None].astype(np.float32)

    def paint(self, head: FloatArray, shape: MouthShape) -> None:
        """Paint ``shape`` into ``head`` f32 (H, W, 3 or 4), in place; the jaw of ``head`` has been dropped already."""
        lines = lip_lines(self._face, shape, self._x[0])
        patch = head[self._patch][..., :3]
        x, y, soft = self._x, self._y, self._soft
        inside = self._between(lines.upper_inner, lines.lower_inner)
        upper = self._between(lines.upper_outer, lines.upper_inner)
        lower = self._between(lines.lower_inner, lines.lower_outer)
        column = step(lines.half_width - np.abs(x), 0.02)

        # The lower lip shades the skin below it; the corners make small dimples.
        under_y = float(lines.lower_outer[len(lines.lower_outer) // 2]) + 0.05
        corner_y = float(np.interp(lines.half_width, x[0], lines.upper_inner))
        shadow = 0.24 * blob(x, y, 0, under_y, 0.2, 0.035)
        shadow += 0.2 * blob(np.abs(x), y, lines.half_width + 0.01, corner_y, 0.03, 0.03)
        rgb = patch * (1 - shadow[..., None])
        if shape.gap > 0.01:
            rgb = mix(rgb, self._cavity(shape, lines), inside * column)
        colour = np.array(self._face.lips, np.float32) * self._light * self._creases
        across = (y - lines.upper_outer) / np.maximum(lines.upper_inner - lines.upper_outer, 1e-3)
        rgb = mix(rgb, colour * (1.0 - 0.3 * np.clip(across, 0, 1) ** 1.5)[..., None], upper * column * 0.94)
        across = np.clip((y - lines.lower_inner) / np.maximum(lines.lower_outer - lines.lower_inner, 1e-3), 0, 1)
        sheen = 0.3 * blob(x, across, 0.12 * float(np.sign(self._face.light[0])), 0.38, 0.13, 0.2)
        rgb = mix(rgb, colour * (0.92 + 0.2 * (1 - across) * across + sheen)[..., None], lower * column * 0.94)
        # A dark line where closed lips meet.
        seam = np.exp(-0.5 * ((y - 0.5 * (lines.upper_inner + lines.lower_inner)) / (1.3 * soft + 0.008)) ** 2)
        shut = float(np.clip(1 - shape.gap * 12, 0, 1)) * 0.75
        patch[:] = mix(rgb, colour * 0.22, np.asarray(seam * shut * column, np.float32))

    def _between(self, above: FloatArray, below: FloatArray) -> FloatArray:
        """Coverage of the pixels between two lines, anti-aliased."""
        soft = self._soft
        top = np.clip((self._y - above) / (2 * soft) + 0.5, 0, 1)
        bottom = np.clip((below - self._y) / (2 * soft) + 0.5, 0, 1)
        return np.asarray(np.clip(top + bottom - 1, 0, 1), np.float32)

    def _cavity(self, shape: MouthShape, lines: LipLines) -> FloatArray:
        """Paint what is behind the lips: the dark cavity, tongue, lower and upper teeth."""
        x, y, face = self._x, self._y, self._face
        light = self._light * (0.55 + 0.35 * min(shape.gap + shape.teeth, 1.0))
        drop = JAW_DROP * shape.jaw
        rgb = np.ones((*x.shape, 3), np.float32) * np.array((46, 16, 16), np.float32) * light
        tongue_y = 0.06 + 0.8 * drop - 0.13 * shape.tongue
        tongue = blob(x, y, 0, tongue_y + 0.12, 0.6 * face.mouth_width, 0.13)
        flesh = np.array((188, 92, 92), np.float32) * light
        rgb = mix(rgb, flesh * (0.7 + 0.3 * shape.tongue), step(tongue - 0.5, 0.3) * 0.9)

        reach = np.clip(1 - (np.abs(x) / (0.86 * face.mouth_width)) ** 3, 0, 1)
        enamel = np.array((236, 228, 214), np.float32) * light * (0.7 + 0.3 * reach)[..., None]
        gaps = 1 - 0.16 * np.exp(-0.5 * (np.sin(np.pi * x / 0.072) / 0.14) ** 2)[..., None]
        # Lower teeth move with the jaw, upper ones are fixed to the skull; both show where the lips uncover them.
        lower_edge = 0.055 + drop * 0.8
        lower = step(y - lower_edge, 0.012) * step(reach - 0.3, 0.2)
        rgb = mix(rgb, enamel * gaps * 0.72, lower * 0.85)
        upper_edge = 0.008 + 0.035 * shape.teeth - 0.05 * shape.rounding + 0.04 * shape.tuck
        upper = step(upper_edge + 0.012 * (reach - 1) - y, 0.012) * step(reach - 0.2, 0.2)
        rgb = mix(rgb, enamel * gaps, upper)
        if shape.tip > 0.02:
            tip = step(1 - np.hypot(x / 0.17, (y - upper_edge - 0.055) / 0.062), 0.12)
            shade = 1.12 - 0.3 * np.clip(np.abs(x) / 0.17, 0, 1)
            rgb = mix(rgb, flesh * shade[..., None], tip * min(shape.tip * 1.4, 1.0))
        # The lips cast a shadow on what lies behind.
        depth = np.clip(np.minimum(y - lines.upper_inner, lines.lower_inner - y) / 0.035, 0, 1)
        sides = np.clip(1 - (np.abs(x) / (1.02 * lines.half_width)) ** 4, 0, 1)
        return np.asarray(rgb * ((0.5 + 0.5 * depth) * (0.35 + 0.65 * sides))[..., None], np.float32)
