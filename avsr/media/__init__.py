"""Sources of sound and pictures, and their alignment to the common clock."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avsr.media.align import (
    AlignedVideo,
    AudioAligner,
    AudioAlignerState,
    AudioPacket,
    Packet,
    VideoAligner,
    VideoAlignerState,
)
from avsr.media.noise import active_rms, mix_at_snr
from avsr.media.resample import to_mono

if TYPE_CHECKING:
    from avsr.media.file import MediaFile, open_media

__all__ = [
    "AlignedVideo",
    "AudioAligner",
    "AudioAlignerState",
    "AudioPacket",
    "MediaFile",
    "Packet",
    "VideoAligner",
    "VideoAlignerState",
    "active_rms",
    "mix_at_snr",
    "open_media",
    "to_mono",
]


def __getattr__(name: str) -> Any:
    """Import PyAV only where a file is opened: a machine that trains from packs does without."""
    if name not in ("MediaFile", "open_media"):
        raise AttributeError(f"module 'avsr.media' has no attribute {name!r}")
    return getattr(import_module("avsr.media.file"), name)
