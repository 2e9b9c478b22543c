"""Finding the speaking face and cutting out its mouth, steady enough to read lips from."""

from avsr.lips.landmarks import Face, FaceMesh, Landmarker, LateFaceMesh
from avsr.lips.offset import OffsetMeter
from avsr.lips.tracker import LipInput, LipState, LipTracker

__all__ = [
    "Face",
    "FaceMesh",
    "Landmarker",
    "LateFaceMesh",
    "LipInput",
    "LipState",
    "LipTracker",
    "OffsetMeter",
]
