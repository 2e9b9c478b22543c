"""Sound and pictures from anything that PyAV opens: files, URLs, pipes, open binary files.

Both tracks come out in lock-step, in the order of their times. Whatever a container says about when its tracks begin is
kept: stream time 0 is the beginning of the track that begins first. Where files were joined, their times go on.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet as AvPacket
from av.stream import Disposition

from avsr.errors import MediaError
from avsr.media.align import Packet
from avsr.media.joins import JoinedTimes
from avsr.media.naming import name_of, reason_of
from avsr.media.tracks import AudioTrack, VideoTrack
from avsr.types import Modality

OPEN_TIMEOUT_S = 20.0
"""How long a server may take to answer."""
READ_TIMEOUT_S = 30.0
"""How long it may be silent later on."""
DISORDER_S = 1
"""Tracks further apart than this in the order of the file are worth a warning."""
SHORT_BY_S = 0.5
"""A file that ends this much before its stated duration (and 5 % of it) is worth a warning."""
MAX_PLACES = 5
"""A warning names at most so many places of the file."""

PIPE, REWINDABLE = "pipe:0", "fd:"
"""FFmpeg's names for standard input: as a pipe, and as a seekable file, which it reads from its beginning."""
INDEX_AT_END = (
    ", or it is an mp4 whose index is at its end, which cannot be read from a pipe: give the file itself, or put the "
    "index in front (ffmpeg -i FILE -c copy -movflags +faststart NEW)"
)


def open_media(source: str | Path | BinaryIO, modality: Modality = "av") -> MediaFile:
    """Open a path, a URL, an open binary file, or ``"-"`` for standard input.

    ``modality`` chooses what is decoded: "audio" and "video" need that track, "av" takes what is there.

    Raises:
        MediaError: it cannot be opened, is no media, or has no track that the modality can use.
    """
    name = name_of(source)
    _check_path(source, name)
    container = _open_container(source, name)
    try:
        return MediaFile(container, name, modality)
    except BaseException:
        container.close()
        raise


class MediaFile:
    """An open source; iterate it once for `AudioPacket` and `VideoFrame` on the stream clock. A context manager.

    ``name`` is the source as the user knows it. Memory is bounded: a few decoded frames, and at most 512 undecoded
    packets or 32 MiB of them a track, while the other track's next packet is looked for. Where a container is
    interleaved worse than that, the full track is delivered alone, nothing is lost, and a warning says so. Damage
    raises only if nothing at all could be decoded; else it is told in ``warnings``.
    """

    def __init__(self, container: InputContainer, name: str, modality: Modality) -> None:
        self.name = name
        self._container = container
        self._warnings: list[str] = []
        self._damage: list[str] = []
        self._position = Fraction(0)
        self._begun = False
        self._begins_at: int | None = None
        self._origin: Fraction | None = None
        self._joins = JoinedTimes()
        audio = _choose(container.streams.audio) if modality != "video" else None
        video = _choose(container.streams.video) if modality != "audio" else None
        if audio is None and video is None:
            raise MediaError(f"{name} has {_missing_track(container, modality)}")
        self._audio = AudioTrack(audio) if audio is not None else None
        self._video = VideoTrack(video) if video is not None else None
        self._tracks = [track for track in (self._audio, self._video) if track is not None]
        for track in self._tracks:
            track.stream.codec_context.thread_count = 1
            track.stream.codec_context.thread_type = "AUTO"
        # What FFmpeg assumed when it opened the file; the decoder changes it later.
        self._bit_rate = audio.codec_context.bit_rate if audio is not None else None

    @property
    def duration_s(self) -> float | None:
        """Seconds of the tracks in use, as the container states them; None where it does not, as for a live stream.

        For an mp3 it is known only once reading has begun.
        """
        if self._duration_is_a_guess:
            return None
        streams = [track.stream for track in self._tracks]
        stated = [stream.duration * (stream.time_base or 0) for stream in streams if stream.duration]
        if stated:
            return float(max(stated))
        if not self._container.duration:
            return None
        # Matroska states when it ends, on its own clock.
        begins_us = self._container.start_time if "matroska" in self._container.format.name else None
        return (self._container.duration - (begins_us or 0)) / 1e6

    @property
    def position_s(self) -> float:
        """Stream time, in seconds, up to which sound or pictures were delivered."""
        return float(self._position)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong so far, though the rest could be read; complete after the iteration."""
        return tuple(self._warnings)

    @property
    def damage(self) -> tuple[str, ...]:
        """Those of ``warnings`` that report a loss, for instance a file that was not copied completely."""
        return tuple(self._damage)

    def __iter__(self) -> Iterator[Packet]:
        """Yield sound and pictures in the order of their times.

        Raises:
            MediaError: nothing at all can be decoded, or the source was read before.
        """
        if self._begun:
            raise MediaError(f"{self.name} has been read already; open it again to read it again.")
        self._begun = True
        return self._deliveries()

    def close(self) -> None:
        """Release the source; harmless when repeated."""
        self._container.close()

    def __enter__(self) -> MediaFile:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def _duration_is_a_guess(self) -> bool:
        """Whether FFmpeg estimated it from the bit rate of the first frames, which is far off where that varies."""
        format_name = self._container.format.name
        if format_name != "mp3" or self._audio is None:
            return format_name == "aac"
        stream = self._audio.stream
        if self._begins_at is None or not stream.duration or not self._bit_rate:
            return True
        # If a Xing header states the duration, it differs from what the number of bytes at that bit rate gives.
        num_bytes = float(stream.duration * (stream.time_base or 0)) * self._bit_rate / 8
        return bool(abs(num_bytes - (self._container.size - self._begins_at)) < 1)

    def _deliveries(self) -> Iterator[Packet]:
        packets = self._packets()
        newest: dict[int, Fraction] = {}
        returns_at: Fraction | None = None
        disordered = delivered_any = False
        while True:
            for track in self._tracks:
                track.decode()
            if any(track.is_waiting for track in self._tracks) and not any(track.is_full for track in self._tracks):
                packet = next(packets, None)
                for track in self._tracks:
                    if packet is None or packet.stream_index == track.stream.index:
                        track.put(packet)
                    elif packet.dts is not None and packet.time_base is not None:
                        track.pass_by(packet.dts * packet.time_base)
                continue
            times = [(track.next_time, index) for index, track in enumerate(self._tracks)]
            ready = [(time, index) for time, index in times if time is not None]
            if not ready:
                break
            time, index = min(ready)
            if self._origin is None:
                self._origin = time
            # This is sound: a video track leaves out pictures that run backwards.
            if returns_at is None and newest.get(index, time) - time > DISORDER_S:
                returns_at = newest[index] - self._origin
            disordered |= max(newest.values(), default=time) - time > DISORDER_S
            newest[index] = max(newest.get(index, time), time)
            length = self._tracks[index].next_length
            delivery = self._tracks[index].take(self._origin)
            if delivery is not None:
                self._position = max(self._position, time - self._origin + length)
                delivered_any = True
                yield delivery
        self._warn_at_end(disordered, returns_at)
        if not delivered_any:
            raise MediaError(
                f"{self.name} was opened, but no audio or video could be decoded: it is empty or damaged"
                + (INDEX_AT_END if _is_pipe(self._container.name) and "mp4" in self._container.format.name else "")
                + (". " + " ".join(self._warnings) if self._warnings else "")
            )

    def _packets(self) -> Iterator[AvPacket[Any]]:
        """Yield the packets of the tracks in use; a source that breaks off ends with a warning."""
        try:
            for packet in self._container.demux([track.stream for track in self._tracks]):
                # The demuxer ends each track with an empty packet; here None ends them all.
                if packet.size:
                    self._begins_at = packet.pos if self._begins_at is None else self._begins_at
                    yield from self._joins.place(packet)
        except (av.FFmpegError, OSError) as error:
            self._warn_of_damage(f"{self.name} breaks off after {self.position_s:.1f} s: {reason_of(error)}.")
        yield from self._joins.flush()

    def _warn_at_end(self, disordered: bool, returns_at: Fraction | None) -> None:
        for track, kind in ((self._audio, "audio"), (self._video, "video")):
            if track is not None and track.num_errors:
                self._warn_of_damage(f"{self.name}: the {kind} is damaged in places ({track.num_errors}).")
        if self._video is not None and self._video.num_out_of_order:
            self._warnings.append(
                f"{self.name}: {self._video.num_out_of_order} video frames with timestamps out of order were skipped."
            )
        if self._joins.joins_at:
            joins_at = [f"{float(time - (self._origin or 0)):.1f}" for time in self._joins.joins_at]
            places = ", ".join(joins_at[:MAX_PLACES])
            if len(joins_at) > MAX_PLACES:
                places += f" (and {len(joins_at) - MAX_PLACES} more)"
            self._warnings.append(
                f"{self.name}: timestamps restart after {places} s, as where files were joined; they are treated as "
                "continuous."
            )
        if returns_at is not None:
            self._warnings.append(
                f"{self.name}: audio timestamps briefly run backwards after {float(returns_at):.1f} s; audio for times "
                "already read is skipped."
            )
        elif disordered:
            self._warnings.append(f"{self.name}: audio and video lie too far apart in the file to be read together.")
        duration_s = self.duration_s
        if not self._warnings and duration_s and self.position_s < 0.95 * duration_s - SHORT_BY_S:
            self._warn_of_damage(
                f"{self.name} ends after {self.position_s:.1f} s of the {duration_s:.1f} s stated in its header; "
                "the end may be missing."
            )

    def _warn_of_damage(self, warning: str) -> None:
        self._warnings.append(warning)
        self._damage.append(warning)


def _choose(streams: tuple[Any, ...]) -> Any:
    """Return the default track, else the first; None where there is none that can be decoded.

    The cover picture of a music file is no video.
    """
    usable = [
        stream
        for stream in streams
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
    ]
    preferred = [stream for stream in usable if stream.disposition & Disposition.default]
    return next(iter(preferred + usable), None)


def _missing_track(container: InputContainer, modality: Modality) -> str:
    if not container.streams:
        return "no tracks at all: it is damaged, or its end is missing (an mp4 may keep its index there)."
    if modality == "audio":
        return "no sound that can be decoded; try the modality video."
    if modality == "video":
        return "no moving picture that can be decoded; try the modality audio."
    return "no sound and no moving picture that can be decoded; give a file with one of them."


def _is_url(source: str | Path | BinaryIO) -> bool:
    if not isinstance(source, str) or ":" not in source.split("/")[0]:
        return False
    try:
        return not Path(source).exists()
    except OSError:  # a URL may well be too long for the name of a file
        return True


def _check_path(source: str | Path | BinaryIO, name: str) -> None:
    if isinstance(source, io.TextIOBase):
        raise MediaError(f"{name} is open as text; open it in mode 'rb'.")
    if not (isinstance(source, str | Path) or hasattr(source, "read")):
        raise MediaError(f"{type(source).__name__} is no path, URL or open file; put bytes into io.BytesIO.")
    if not isinstance(source, str | Path) or str(source) == "-" or _is_url(source):
        return
    if not str(source):
        raise MediaError("The name of the file is empty; give one (an unset variable of the shell leaves none).")
    path = Path(source)
    try:
        if path.is_dir():
            raise MediaError(f"{name} is a directory; give a media file in it.")
        if not path.exists():
            raise MediaError(f"There is no file {name}; check the path.")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{name} is empty (0 bytes); it may not have been copied completely.")
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {reason_of(error)}; check the path and its permissions.") from error


def _open_container(source: str | Path | BinaryIO, name: str) -> InputContainer:
    is_url = _is_url(source)
    file: Any = source
    if str(source) == "-":
        file = _standard_input()
    elif isinstance(source, str | Path) and not is_url:
        # Absolute, so that FFmpeg does not take the start of a name such as 10:30.wav for a protocol.
        file = str(Path(source).absolute())
    timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S) if is_url else None
    try:
        # Tags may be in any encoding, and are not used.
        container: InputContainer = av.open(file, mode="r", timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        advice = (
            "It is no audio or video file that FFmpeg knows, it is damaged, or its end is missing (an mp4 may keep its "
            "index there)."
            if isinstance(error, av.error.InvalidDataError | EOFError)
            else "Check the address and that it may be read."
        )
        raise MediaError(f"{name} cannot be opened: {reason_of(error)}. {advice}") from error
    format_name = container.format.name
    # FFmpeg renders text files as video of a terminal, and opens a still picture as a video of one frame.
    if format_name == "tty" or format_name.startswith("image2") or format_name.endswith("_pipe"):
        container.close()
        what = "a text file" if format_name == "tty" else "a still picture"
        raise MediaError(f"{name} is {what}, no audio or video; give a media file.")
    return container


def _standard_input() -> str:
    try:
        is_whole_file = stat.S_ISREG(os.fstat(0).st_mode) and os.lseek(0, 0, os.SEEK_CUR) == 0
    except OSError:  # it is closed, which FFmpeg will say
        is_whole_file = False
    return REWINDABLE if is_whole_file else PIPE


def _is_pipe(place: str) -> bool:
    """Whether what FFmpeg calls ``place`` is local but not seekable."""
    try:
        return place == PIPE or not (place == REWINDABLE or stat.S_ISREG(Path(place).stat().st_mode))
    except (OSError, ValueError):
        return False
