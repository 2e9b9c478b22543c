"""A dim mouth, whether by little light or by dark skin, made as bright as what models learn from."""

from __future__ import annotations

import cv2
import numpy as np

from avsr.types import LIP_SIZE, ByteArray

DIM_LEVEL = 80.0
"""A mean gray of the mouth below this, of 255, is dim; at less than half of it the default model misreads much."""

_MOUTH = slice(LIP_SIZE // 8, LIP_SIZE - LIP_SIZE // 8)


def brighten(lips: ByteArray) -> ByteArray:
    """Return the crop u8 (96, 96) with a mouth of ``DIM_LEVEL`` at least; one of usual brightness as it is.

    Every picture by itself: all of it is multiplied by one number, as more light would.
    """
    level = float(np.mean(lips[_MOUTH, _MOUTH]))
    if level >= DIM_LEVEL:
        return lips
    return cv2.convertScaleAbs(lips, alpha=DIM_LEVEL / max(level, 1.0)).astype(np.uint8, copy=False)
