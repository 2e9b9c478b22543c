"""Every error that avsr raises on purpose.

    AvsrError
    ├── InputError        a file, URL, packet or argument cannot be used
    │   ├── MediaError    a container, codec or track cannot be opened or decoded
    │   └── TextError     text cannot be expressed in the tokenizer or grammar asked for
    ├── ConfigError       a setting is unknown, of the wrong type or out of range
    ├── BundleError       a model directory is missing, damaged, of another version or unsafe
    ├── DeviceError       a camera, microphone or accelerator is missing or refuses
    └── MissingExtraError an optional package or program is needed; the message says how to get it

Each message says what was wrong, where, and what to do. The command line prints it and exits with code 2
(1 when others of several files succeeded).
"""

from __future__ import annotations


class AvsrError(Exception):
    """Root of the tree."""


class InputError(AvsrError):
    """A file, URL, packet or argument cannot be used."""


class MediaError(InputError):
    """A container, codec or track cannot be opened or decoded."""


class TextError(InputError):
    """Text cannot be expressed in the tokenizer or grammar asked for."""


class ConfigError(AvsrError):
    """A setting is unknown, of the wrong type or out of range."""


class BundleError(AvsrError):
    """A model directory is missing, damaged, of another version or unsafe."""


class DeviceError(AvsrError):
    """A camera, microphone or accelerator is missing or refuses."""


class MissingExtraError(AvsrError):
    """An optional package or program is needed; the message says how to get it."""
