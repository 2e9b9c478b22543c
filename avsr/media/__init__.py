"""Sources of sound and pictures, and their alignment to the common clock."""

from avsr.media.align import (
    AlignedAudio,
    AlignedVideo,
    AudioAligner,
    AudioAlignerState,
    AudioPacket,
    VideoAligner,
    VideoAlignerState,
)
from avsr.media.file import MediaFile, open_media
from avsr.media.noise import active_rms, babble, mix_at_snr
from avsr.media.resample import Resampler, ResamplerState, to_mono

__all__ = [
    "AlignedAudio",
    "AlignedVideo",
    "AudioAligner",
    "AudioAlignerState",
    "AudioPacket",
    "MediaFile",
    "Resampler",
    "ResamplerState",
    "VideoAligner",
    "VideoAlignerState",
    "active_rms",
    "babble",
    "mix_at_snr",
    "open_media",
    "to_mono",
]
