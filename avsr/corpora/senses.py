"""A clip of a corpus as the engine sees and hears it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from avsr.errors import MediaError
from avsr.frontend import FrontEnd, SenseTicks, join_ticks
from avsr.lips import LateFaceMesh, LipTracker
from avsr.media import AudioAligner, AudioPacket
from avsr.media.align import SoundPart, end_of, take_sound
from avsr.media.naming import usable
from avsr.types import FloatArray, Modality, VideoFrame

if TYPE_CHECKING:
    from avsr.media import MediaFile

CHUNK_TICKS = 25


def read_senses(path: Path, modality: Modality, *, must_be_whole: bool = False) -> SenseTicks:
    """Run a whole file through the engine's front end; a damaged one as far as it can be read.

    Raises:
        MediaError: the file cannot be used, or is damaged and ``must_be_whole``.
    """
    if modality == "audio":
        return _read_senses(path, FrontEnd(modality, tracker=None), must_be_whole)
    with closing(LateFaceMesh()) as mesh:
        return _read_senses(path, FrontEnd(modality, LipTracker(mesh)), must_be_whole)


def _read_senses(path: Path, front: FrontEnd, must_be_whole: bool) -> SenseTicks:
    from avsr.media import open_media  # it needs PyAV, which a machine that trains from a pack can do without

    state, pieces = front.init_state(), []

    def take() -> None:
        nonlocal state
        while True:
            ticks, state = front.take(CHUNK_TICKS, state)
            if ticks is None:
                return
            pieces.append(ticks)

    with open_media(path, front.modality) as media:
        for packet in media:
            with usable(media.name):
                state = front.accept(packet, state)
            take()
        if must_be_whole and media.damage:
            raise MediaError(" ".join(media.damage))
    state = front.end(state)
    take()
    return join_ticks(pieces)


def read_clip(path: Path) -> tuple[FloatArray, list[VideoFrame]]:
    """Read a short clip whole: its sound from stream time 0, f32 (640 n,) at 16 kHz mono, and its pictures.

    Raises:
        MediaError: the file cannot be used.
    """
    frames: list[VideoFrame] = []
    samples, _ = read_sound(path, frames.append)
    return samples, frames


def read_sound(path: Path, on_picture: Callable[[VideoFrame], object]) -> tuple[FloatArray, MediaFile]:
    """Read a file's sound as `read_clip` does; ``on_picture`` is given each picture. Also return the file, closed.

    Raises:
        MediaError: the file cannot be used.
    """
    from avsr.media import open_media

    aligner, parts = AudioAligner(), list[SoundPart]()
    state = aligner.init_state()
    with open_media(path) as media:
        for packet in media:
            if isinstance(packet, AudioPacket):
                with usable(media.name):
                    aligned, state = aligner.step(packet, state)
                parts += aligned
            else:
                on_picture(packet)
    parts += aligner.flush(state)
    samples, _, _ = take_sound(parts, 0, end_of(parts[-1]) if parts else 0)
    return samples, media
