"""Where the faces are: 468 points a face, from MediaPipe's FaceMesh behind a small protocol.

The only module that knows MediaPipe, which is imported when a ``FaceMesh`` is made: the import takes seconds.
The models come out of MediaPipe's wheel; nothing is fetched.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any, Protocol

import cv2
import numpy as np

from avsr.errors import InputError
from avsr.stderr import silent_stderr
from avsr.types import ByteArray, FloatArray

NUM_POINTS = 468
"""Points in a FaceMesh face."""
MAX_SIDE = 640
"""Longest side of the picture that FaceMesh is given, pixels; larger pictures are shrunk first."""
LOOK_AROUND_PICTURES = 25
"""While it tracks one face, FaceMesh looks for others once in this many pictures."""

MOUTH_CORNERS = (61, 291)
INNER_LIPS = (13, 14)
"""Middle of the inner edge of the upper and of the lower lip."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face: ``points`` f32 (468, 2), x and y in pixels of the picture it was found in."""

    points: FloatArray

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of all points, pixels."""
        left, top = self.points.min(axis=0).tolist()
        right, bottom = self.points.max(axis=0).tolist()
        return left, top, right, bottom

    @property
    def mouth_centre(self) -> FloatArray:
        """Midpoint of the mouth corners, f32 (2,)."""
        right, left = MOUTH_CORNERS
        centre: FloatArray = (self.points[right] + self.points[left]) / 2
        return centre

    @property
    def mouth_width(self) -> float:
        """Distance of the mouth corners, pixels."""
        right, left = self.points[list(MOUTH_CORNERS)]
        return float(np.hypot(*(left - right)))

    @property
    def mouth_opening(self) -> float:
        """Gap of the inner lips over the mouth's width; 0 when shut."""
        upper, lower = self.points[list(INNER_LIPS)]
        return float(np.hypot(*(lower - upper))) / max(self.mouth_width, 1e-6)


class Landmarker(Protocol):
    """Finds faces in consecutive pictures of one stream; may remember where they were."""

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Faces in ``rgb`` u8 (H, W, 3), in no particular order; empty when there is none."""
        ...

    def close(self) -> None:
        """Release what it holds; a second call does nothing."""
        ...


class FaceMesh:
    """MediaPipe FaceMesh (Kartynnik et al. 2019, "Real-time facial surface geometry from monocular video").

    It tracks: the face of one picture tells it where to look in the next, so each stream needs its own. To look for
    further faces in every picture would double its cost. So with ``max_num_faces`` above one (by default two) it counts
    the faces in one of ``LOOK_AROUND_PICTURES`` pictures, and tracks several only while there are several.
    """

    def __init__(self, max_num_faces: int = 2) -> None:
        """Open the models. Raises InputError when ``max_num_faces`` is below one."""
        if max_num_faces < 1:
            raise InputError(f"max_num_faces must be at least 1, not {max_num_faces}")
        self._max_num_faces = max_num_faces
        self._one: Any = _open_mesh(1)
        self._several: Any = None
        self._counter: Any = _open_counter() if max_num_faces > 1 else None
        self._next_look = 0
        self._follows_several = False

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Faces in ``rgb`` u8 (H, W, 3).

        Raises:
            InputError: the picture is of another shape or type, or the landmarker is closed.
        """
        if self._one is None:
            raise InputError("this FaceMesh is closed; open another one to look for faces")
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise InputError(f"a picture must be u8 (H, W, 3), not {rgb.dtype} {rgb.shape}; convert it to RGB first")
        faces = self._find(shrink_to(rgb, MAX_SIDE))
        # Points come relative to the picture, so the shrinking needs no undoing.
        size = np.array([rgb.shape[1], rgb.shape[0]], np.float32)
        return [Face(np.array([(p.x, p.y) for p in face.landmark[:NUM_POINTS]], np.float32) * size) for face in faces]

    def close(self) -> None:
        """Release the graphs and their threads; a second call does nothing."""
        for graph in (self._one, self._several, self._counter):
            if graph is not None:
                graph.close()
        self._one = self._several = self._counter = None

    def __enter__(self) -> FaceMesh:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, rgb: ByteArray) -> Sequence[Any]:
        if self._counter is not None:
            self._look_around(rgb)
        faces = (self._several if self._follows_several else self._one).process(rgb).multi_face_landmarks or ()
        if self._follows_several and len(faces) > 1:
            self._next_look = LOOK_AROUND_PICTURES
        return faces

    def _look_around(self, rgb: ByteArray) -> None:
        """Decide, when it is time, whether to follow one face or several."""
        if self._next_look > 0:
            self._next_look -= 1
            return
        self._next_look = LOOK_AROUND_PICTURES - 1
        follows_several = len(self._counter.process(rgb).detections or ()) > 1
        if follows_several == self._follows_several:
            return
        self._follows_several = follows_several
        if follows_several and self._several is None:
            self._several = _open_mesh(self._max_num_faces)
        # An empty picture makes the graph forget where faces were when it was last used.
        (self._several if follows_several else self._one).process(_EMPTY_PICTURE)


class LateFaceMesh:
    """A FaceMesh that is opened at the first picture: it takes memory, and many streams have no pictures."""

    def __init__(self) -> None:
        self._mesh: FaceMesh | None = None

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Faces in ``rgb`` u8 (H, W, 3)."""
        self._mesh = self._mesh or FaceMesh()
        return self._mesh(rgb)

    def close(self) -> None:
        """Release it, if it was opened."""
        if self._mesh is not None:
            self._mesh.close()


def shrink_to(rgb: ByteArray, max_side: int) -> ByteArray:
    """``rgb`` with its longest side at most ``max_side`` pixels, averaged; unchanged when it fits."""
    height, width = rgb.shape[:2]
    ratio = max_side / max(height, width)
    if ratio >= 1:
        return np.ascontiguousarray(rgb)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


_EMPTY_PICTURE = np.zeros((64, 64, 3), np.uint8)


def _open_mesh(max_num_faces: int) -> Any:
    with silent_stderr, _drawing_put_off():
        from mediapipe.python.solutions.face_mesh import FaceMesh as MeshGraph

        return _opened(MeshGraph(max_num_faces=max_num_faces))


def _open_counter() -> Any:
    with silent_stderr, _drawing_put_off():
        from mediapipe.python.solutions.face_detection import FaceDetection

        return _opened(FaceDetection())


@contextmanager
def _drawing_put_off() -> Iterator[None]:
    """Delay MediaPipe's import of its drawing code, and so of Matplotlib, which takes longer than all else."""
    finder = _LateDrawing()
    # A list of its own each time: other threads may be looking through the one that is there.
    sys.meta_path = [finder, *sys.meta_path]
    try:
        yield
    finally:
        sys.meta_path = [each for each in sys.meta_path if each is not finder]


class _LateDrawing(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("mediapipe.python.solutions.drawing_"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _opened(graph: Any) -> Any:
    # A graph opens its models, and logs about it, only with the first picture, and warns about itself at the first
    # face: it is shown one now, and then nothing, so that it forgets where that was.
    graph.process(_drawn_face())
    graph.process(_EMPTY_PICTURE)
    return graph


def _drawn_face() -> ByteArray:
    """Draw the least that FaceMesh takes for a face, u8 (192, 192, 3)."""
    picture = np.full((192, 192, 3), 90, np.uint8)

    def ellipse(x: int, y: int, half_width: int, half_height: int, colour: tuple[int, int, int]) -> None:
        cv2.ellipse(picture, (x, y), (half_width, half_height), 0, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(96, 80, 58, 72, (60, 40, 30))  # hair
    ellipse(96, 100, 52, 74, (200, 160, 135))
    for x in (75, 117):
        ellipse(x, 70, 12, 3, (80, 55, 45))  # brow
        ellipse(x, 82, 10, 5, (240, 240, 240))
        ellipse(x, 82, 5, 5, (60, 40, 30))
    ellipse(96, 110, 8, 4, (150, 110, 95))  # nose
    ellipse(96, 136, 18, 6, (170, 80, 80))  # mouth
    return picture
