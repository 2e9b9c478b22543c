"""Brightens the crop of a dim mouth (little light, or dark skin) to what models learn from."""

from __future__ import annotations

import cv2
import numpy as np

from avsr.types import LIP_SIZE, ByteArray

DIM_LEVEL = 80.0
"""A mouth whose mean gray (of 255) is below this is dim; below half of it the default model makes many errors."""

_MOUTH = slice(LIP_SIZE // 8, LIP_SIZE - LIP_SIZE // 8)


def brighten(lips: ByteArray) -> ByteArray:
    """Return the crop u8 (96, 96), scaled so that the mouth's mean gray is at least about ``DIM_LEVEL``.

    Each picture is treated by itself; one that is bright enough is returned unchanged.
    """
    level = float(np.mean(lips[_MOUTH, _MOUTH]))
    if level >= DIM_LEVEL:
        return lips
    return cv2.convertScaleAbs(lips, alpha=DIM_LEVEL / max(level, 1.0)).astype(np.uint8, copy=False)
