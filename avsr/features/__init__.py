"""Acoustic features."""

from avsr.features.logmel import LogMel, LogMelState

__all__ = ["LogMel", "LogMelState"]
