"""What a poor camera makes of pictures of a mouth: u8 (T, 96, 96) in, the same out.

In a dim room a webcam takes fewer pictures, and grainy ones; a small sensor, a face far off and a narrow line leave
little detail. Real corpora are filmed in studios and show none of this.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avsr.types import TICK_S, ByteArray

RATES_FPS = (6.0, 18.0)
MAX_COARSENESS = 3.0
"""How many pixels of the crop become one, at most."""
MAX_GRAIN = 25.0
"""Standard deviation of the grain, at most; levels of 255."""
JPEG_QUALITIES = (5, 60)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera: pictures a second (None: one each tick), detail lost, grain, and JPEG quality (None: uncompressed).

    ``phase`` in [0, 1) is when it takes a picture, in its own periods.
    """

    rate_fps: float | None = None
    phase: float = 0.0
    coarseness: float = 1.0
    grain: float = 0.0
    quality: int | None = None


def random_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera that is poor in some of the four ways, mostly in two."""
    slow, coarse, grainy, compressed = rng.random(4) < 0.5
    return Camera(
        rate_fps=rng.uniform(*RATES_FPS) if slow else None,
        phase=rng.random(),
        coarseness=rng.uniform(1, MAX_COARSENESS) if coarse else 1.0,
        grain=rng.uniform(0, MAX_GRAIN) if grainy else 0.0,
        quality=int(rng.integers(*JPEG_QUALITIES, endpoint=True)) if compressed else None,
    )


def film(lips: ByteArray, camera: Camera, rng: np.random.Generator) -> ByteArray:
    """Take the pictures with ``camera``; ``rng`` draws the grain."""
    taken = np.arange(len(lips)) if camera.rate_fps is None else ticks_taken(len(lips), camera.rate_fps, camera.phase)
    pictures = {tick: _take(lips[tick], camera, rng) for tick in np.unique(taken)}
    filmed: ByteArray = np.stack([pictures[tick] for tick in taken]) if len(taken) else lips.copy()
    return filmed


def ticks_taken(num_ticks: int, rate_fps: float, phase: float) -> npt.NDArray[np.int64]:
    """Return at which tick each tick's picture was taken: the nearest one of a camera of ``rate_fps``.

    `avsr.media.VideoAligner` picks them alike.
    """
    ticks_per_period = 1 / (rate_fps * TICK_S)
    nearest = np.rint(np.arange(num_ticks) / ticks_per_period - phase) + phase
    taken: npt.NDArray[np.int64] = np.rint(nearest * ticks_per_period).astype(np.int64)
    return np.clip(taken, 0, max(0, num_ticks - 1))


def _take(lip: ByteArray, camera: Camera, rng: np.random.Generator) -> ByteArray:
    side = round(lip.shape[0] / camera.coarseness)
    seen = np.asarray(cv2.resize(lip, (side, side), interpolation=cv2.INTER_AREA))
    if camera.grain:
        grain = rng.standard_normal(seen.shape, np.float32) * np.float32(camera.grain)
        seen = np.clip(seen + grain + np.float32(0.5), 0, 255).astype(np.uint8)
    if camera.quality is not None:
        _, packet = cv2.imencode(".jpg", seen, (cv2.IMWRITE_JPEG_QUALITY, camera.quality))
        seen = np.asarray(cv2.imdecode(packet, cv2.IMREAD_GRAYSCALE))
    shown: ByteArray = cv2.resize(seen, lip.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return shown
