"""Finding the speaking face and cutting out its mouth, steady enough to read lips from."""

from avsr.lips.crop import LipCropper, Smoothing
from avsr.lips.landmarks import Face, FaceMesh, Landmarker, LateFaceMesh
from avsr.lips.offset import OffsetMeter
from avsr.lips.speaker import SpeakerConfig, SpeakerPicker, level_db
from avsr.lips.tracker import LipConfig, LipInput, LipState, LipTracker

__all__ = [
    "Face",
    "FaceMesh",
    "Landmarker",
    "LateFaceMesh",
    "LipConfig",
    "LipCropper",
    "LipInput",
    "LipState",
    "LipTracker",
    "OffsetMeter",
    "Smoothing",
    "SpeakerConfig",
    "SpeakerPicker",
    "level_db",
]
