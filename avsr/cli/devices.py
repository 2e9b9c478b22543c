"""``avsr devices``: the microphones and cameras that there are, and whether they work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from avsr.media.capture import Capture, Source

TEST_S = 1.5
"""How long each device is listened to or looked through."""
WARM_UP_S = 0.5
"""Cameras need some pictures to find the light."""
PREVIEW_CELLS = 48
"""Width of the preview, in characters."""


def run(
    test: Annotated[bool, typer.Option("--test", help="Open each device; show its sound level or picture.")] = False,
) -> None:
    """List microphones and cameras.

    Use their names with --mic and --camera of `avsr live`.
    """
    from rich.console import Console

    from avsr.errors import DeviceError
    from avsr.media.camera import list_cameras, open_camera
    from avsr.media.microphone import list_microphones, open_microphone

    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        microphones = list_microphones()
    except DeviceError as error:
        microphones = ()
        console.print(f"microphones: {error}")
    console.print("microphones:" if microphones else "microphones: none")
    for microphone in microphones:
        default = ", default" if microphone.is_default else ""
        form = f"{microphone.num_channels} channels, {microphone.sample_rate} Hz, {microphone.system}{default}"
        console.print(f"  {microphone.index}  {microphone.name}  ({form})")
        if test:
            _try(console, partial(open_microphone, str(microphone.index)), _show_sound)
    cameras = list_cameras()
    console.print("cameras:" if cameras else "cameras: none (a network camera is given by its URL)")
    for camera in cameras:
        console.print(f"  {camera.index}  {camera.name}")
        if test:
            _try(console, partial(open_camera, str(camera.index)), _show_pictures)


def _try(console: Console, open_source: Callable[[], Source], show: Callable[[Console, list[Capture]], None]) -> None:
    from avsr.errors import DeviceError

    try:
        source = open_source()
        try:
            end_s = time.monotonic() + WARM_UP_S + TEST_S
            captures = []
            while time.monotonic() < end_s:
                capture = source.read()
                if time.monotonic() > end_s - TEST_S:
                    captures.append(capture)
        finally:
            source.close()
    except DeviceError as error:
        console.print(f"     {error}")
        return
    show(console, captures)


def _show_sound(console: Console, captures: list[Capture]) -> None:
    import numpy as np

    from avsr.captions.live import QUIET_DB, bar
    from avsr.media import to_mono
    from avsr.media.capture import Sound
    from avsr.types import level_db

    sounds = [capture for capture in captures if isinstance(capture, Sound)]
    loudest_db = max(level_db(to_mono(sound.samples)) for sound in sounds)
    line = bar(1 - loudest_db / QUIET_DB, "green").append(f" {loudest_db:.0f} dB")
    if not any(np.any(sound.samples) for sound in sounds):
        line.append(": silent, it may be muted")
    console.print("     ", line, sep="")


def _show_pictures(console: Console, captures: list[Capture]) -> None:
    from avsr.captions.live import picture
    from avsr.media.capture import Picture

    pictures = [capture for capture in captures if isinstance(capture, Picture)]
    rate_hz = (len(pictures) - 1) / max(1e-9, pictures[-1].host_s - pictures[0].host_s)
    height, width = pictures[-1].rgb.shape[:2]
    console.print(f"     {width}x{height}, {rate_hz:.1f} pictures a second")
    console.print(picture(pictures[-1].rgb, PREVIEW_CELLS))
