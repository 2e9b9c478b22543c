"""The identity of a talker: parameters of the drawn face, its background and its camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from avsr.errors import InputError

Rgb = tuple[float, float, float]
"""Red, green, blue in 0..255."""

# From light to dark; real skin colours lie near the line through these.
_SKINS = ((246, 214, 194), (236, 194, 166), (222, 174, 140), (196, 146, 110), (158, 110, 80), (122, 82, 60))
_HAIRS = ((38, 28, 24), (66, 44, 30), (104, 70, 42), (150, 108, 62), (196, 160, 104), (128, 56, 30), (132, 128, 126))
_IRISES = ((88, 58, 36), (62, 42, 30), (92, 108, 70), (84, 116, 142), (110, 120, 126))


@dataclass(frozen=True, slots=True)
class FaceStyle:
    """One identity under one light source.

    Lengths are in face units: 1 is half of the width across the cheekbones, x to the right and y down in the picture,
    origin between nose and eyes. ``light`` is the direction towards the lamp (x, y, z to the camera), of length 1.
    ``yaw`` and ``pitch`` (radians) and ``roll_deg`` are the mean pose; ``place`` is the offset of the face centre from
    the picture's, as a fraction of the picture's size; ``zoom`` is the face's width as a fraction of the picture's
    width or, if smaller, of 1.25 times its height.
    """

    seed: int
    skin: Rgb
    lips: Rgb
    hair: Rgb
    iris: Rgb
    shirt: Rgb
    background: tuple[Rgb, Rgb]
    chin_y: float
    crown_y: float
    jaw_power: float
    jaw_taper: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    brow_y: float
    brow_weight: float
    brow_tilt: float
    nose_y: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    hairline_y: float
    hair_volume: float
    hair_length: float
    beard: float
    cheeks: float
    light: tuple[float, float, float]
    ambient: float
    gain: float
    noise: float
    blur_px: float
    yaw: float
    pitch: float
    roll_deg: float
    place: tuple[float, float]
    zoom: float
    motion: float


def random_face(seed: int) -> FaceStyle:
    """Return the face of ``seed``, 0 or more; equal seeds give equal faces.

    Raises:
        InputError: ``seed`` is negative.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; faces are numbered from 0")
    rng = np.random.default_rng([seed, 2])

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def around(rgb: Iterable[float], spread: float) -> Rgb:
        red, green, blue = (float(np.clip(value + rng.normal(0, spread), 8, 250)) for value in rgb)
        return red, green, blue

    darkness = between(0, len(_SKINS) - 1.001)
    lighter, darker = np.array(_SKINS[int(darkness)]), np.array(_SKINS[int(darkness) + 1])
    skin = lighter + (darker - lighter) * (darkness % 1)
    rosy = np.array((196.0, 92.0, 92.0)) * (0.55 + 0.45 * skin[0] / 246)
    male = rng.random() < 0.5
    hairs = _HAIRS if darkness < 3 else _HAIRS[:3]
    hair = around(hairs[int(rng.integers(len(hairs)))], 6)
    azimuth, height = between(-0.9, 0.9), between(0.1, 0.8)
    light = np.array((np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)))
    # Half grey: walls and clothes are rarely of a saturated colour.
    backdrop, cloth = (between(30, 215) * 0.5 + rng.uniform(30, 215, 3) * 0.5 for _ in range(2))
    return FaceStyle(
        seed=seed,
        skin=around(skin, 4),
        lips=around(skin * between(0.36, 0.58) + rosy * 0.45, 6),
        hair=hair,
        iris=around(_IRISES[int(rng.integers(len(_IRISES) if darkness < 3 else 2))], 8),
        shirt=around(cloth, 4),
        background=(around(backdrop, 12), around(backdrop * between(0.5, 0.9), 12)),
        chin_y=between(1.22, 1.4),
        crown_y=between(-1.42, -1.28),
        jaw_power=between(1.95, 2.25) + 0.2 * male,
        jaw_taper=between(0.2, 0.34) - 0.08 * male,
        eye_x=between(0.39, 0.44),
        eye_y=between(-0.18, -0.1),
        eye_width=between(0.19, 0.225),
        eye_height=between(0.075, 0.1),
        brow_y=between(-0.25, -0.2) - 0.03 * (not male),
        brow_weight=between(0.035, 0.06) + 0.015 * male,
        brow_tilt=between(-0.025, 0.025),
        nose_y=between(0.37, 0.45),
        nose_width=between(0.19, 0.25),
        mouth_y=between(0.74, 0.82),
        mouth_width=between(0.35, 0.42),
        upper_lip=between(0.06, 0.1),
        lower_lip=between(0.09, 0.14),
        hairline_y=between(-0.95, -0.72),
        hair_volume=between(1.08, 1.22),
        hair_length=between(-0.2, 0.15) if male else between(0.3, 1.5),
        beard=max(between(-0.8, 0.75), 0.0) if male else 0.0,
        cheeks=between(0.0, 0.35),
        light=(float(light[0]), float(light[1]), float(light[2])),
        ambient=between(0.4, 0.6),
        gain=between(0.82, 1.12),
        noise=between(0.8, 3.5),
        blur_px=between(0.35, 0.75),
        yaw=between(-0.2, 0.2),
        pitch=between(-0.1, 0.1),
        roll_deg=between(-5, 5),
        place=(between(-0.08, 0.08), between(-0.02, 0.06)),
        zoom=between(0.3, 0.42),
        motion=between(0.3, 1.0),
    )
