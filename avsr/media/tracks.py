"""One track of a container: packets go in, decoded sound or pictures with times come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from fractions import Fraction
from typing import Any, Generic, TypeVar

import av
from av.audio.stream import AudioStream
from av.packet import Packet as AvPacket
from av.video.stream import VideoStream

from avsr.media.align import AudioPacket, Packet
from avsr.media.rgb import RgbConverter
from avsr.types import TICK_US, VideoFrame

MAX_QUEUED_PACKETS = 512
"""Packets of one track that may wait for the other one: about 10 s of sound, 20 s of pictures."""
MAX_QUEUED_BYTES = 32 * 2**20
"""Bytes in those packets."""
DEFAULT_FPS = Fraction(25)
"""Where a container neither states a frame rate nor shows one."""
TIMED_IN_PLACES = {"mpegts", "mpeg", "hls"}
"""Formats that state one time for several frames of sound; FFmpeg makes up the times between."""
UNTIMED = {"aac", "mp3", "ac3", "eac3"}
"""Raw streams of audio frames without timestamps: FFmpeg makes up all times."""
PASSED_S = 1
"""Tracks that are read together are at most this far apart, unless one has a gap."""
LEAP_S = 2
"""A time this far ahead of the frame before it is doubted until the frames after it confirm it."""

StreamT = TypeVar("StreamT", AudioStream, VideoStream)
FrameT = TypeVar("FrameT", av.AudioFrame, av.VideoFrame)


class Track(ABC, Generic[StreamT, FrameT]):
    """A queue of packets, bounded by `is_full`, and the few frames decoded ahead of need.

    Times are Fractions of a second on the container's clock. A frame whose time leaps ahead is held until the next ones
    show what happened. If they stay there, there was a gap. If they fall back, its time was damaged: it is counted as
    an error, and placed directly after the frame before it, if it fits before the frames that fell back.
    """

    lookahead = 1
    """Frames to decode before the first of them can be delivered."""
    proof_s = Fraction(0)
    """A leap is believed once a second frame has followed, and the frames since it last at least this long."""

    def __init__(self, stream: StreamT) -> None:
        self.stream: StreamT = stream
        self.num_errors = 0
        self.finished = False
        """Nothing more can be decoded."""
        self._packets: deque[AvPacket[Any] | None] = deque()
        self._num_bytes = 0
        self._decoded: deque[tuple[Fraction, FrameT]] = deque()
        self._held: list[tuple[Fraction, FrameT]] = []
        self._before_leap = Fraction(0)
        self._expected = Fraction(stream.start_time or 0) * (stream.time_base or 0)

    @property
    def is_full(self) -> bool:
        """No more packets should be read for this track."""
        return len(self._packets) >= MAX_QUEUED_PACKETS or self._num_bytes >= MAX_QUEUED_BYTES

    @property
    def is_waiting(self) -> bool:
        """More packets of this track are needed before its next frame can be delivered."""
        return not self.finished and len(self._decoded) < self.lookahead

    @property
    def next_time(self) -> Fraction | None:
        """When the next frame begins; None while none is decoded."""
        return self._decoded[0][0] if self._decoded else None

    @property
    def next_length(self) -> Fraction:
        """How long the next frame lasts, in seconds."""
        return self._length_of(self._decoded[0][1])

    def put(self, packet: AvPacket[Any] | None) -> None:
        """Queue a packet; None ends the track."""
        self._packets.append(packet)
        self._num_bytes += packet.size if packet is not None else 0

    def decode(self) -> None:
        """Decode queued packets until enough frames are ready; damaged ones are counted and left out."""
        while self.is_waiting and self._packets:
            packet = self._packets.popleft()
            self._num_bytes -= packet.size if packet is not None else 0
            try:
                frames: list[Any] = self.stream.codec_context.decode(packet)
            except av.FFmpegError as error:
                # A decoder that reports its end has nothing more to say; anything else is damage.
                self.num_errors += not isinstance(error, EOFError)
                frames = []
            for frame in frames:
                self.num_errors += bool(frame.is_corrupt)
                time = self._time_of(frame)
                if time is not None:
                    self._place(time, frame)
            if packet is None:
                self._believe_held()
                self.finished = True

    @abstractmethod
    def take(self, origin: Fraction) -> Packet | None:
        """Remove the next frame and return it with its time since ``origin``; None if it need not be shown."""

    @abstractmethod
    def _time_of(self, frame: FrameT) -> Fraction | None:
        """Return when a frame begins; None leaves it out."""

    @abstractmethod
    def _length_of(self, frame: FrameT) -> Fraction:
        """Return how long a frame lasts, in seconds."""

    def _end_of(self, time: Fraction, frame: FrameT) -> Fraction:
        """Return when the frame after the one that begins at ``time`` is expected."""
        return time + self._length_of(frame)

    def pass_by(self, time: Fraction) -> None:
        """Believe a leap once another track, now at ``time``, has passed it: no frame has fallen back until then."""
        if self._held and time > self._expected + PASSED_S:
            self._believe_held()

    def _place(self, time: Fraction, frame: FrameT) -> None:
        if self._held and time <= self._held[-1][0]:
            self._doubt_held(time)
        elif self._held and time - self._expected > LEAP_S:
            self._believe_held()
        if self._held or time - self._expected > LEAP_S:
            if not self._held:
                self._before_leap = self._expected
            self._held.append((time, frame))
            self._expected = self._end_of(time, frame)
            if len(self._held) > 1 and self._expected - self._held[0][0] >= self.proof_s:
                self._believe_held()
        else:
            self._deliver(time, frame)

    def _believe_held(self) -> None:
        held, self._held = self._held, []
        for time, frame in held:
            self._deliver(time, frame)

    def _doubt_held(self, returns_at: Fraction) -> None:
        held, self._held = self._held, []
        self.num_errors += len(held)
        self._expected = self._before_leap
        for _, frame in held:
            if self._expected < returns_at:
                self._deliver(self._expected, frame)

    def _deliver(self, time: Fraction, frame: FrameT) -> None:
        self._decoded.append((time, frame))
        self._expected = self._end_of(time, frame)

    def _stamped_time(self, frame: FrameT) -> Fraction:
        time_base = self._time_base_of(frame)
        return self._expected if frame.pts is None or time_base is None else frame.pts * time_base

    def _time_base_of(self, frame: FrameT) -> Fraction | None:
        # PyAV states none for the last frames, which the decoder gives only when it is flushed.
        return frame.time_base or self.stream.time_base


class AudioTrack(Track[AudioStream, av.AudioFrame]):
    """Sound; where times are missing the samples are counted.

    Times that FFmpeg makes up go by the first sample rate, so where the rate may change they count as missing.
    """

    def __init__(self, stream: AudioStream) -> None:
        super().__init__(stream)
        self._to_doubles = av.AudioResampler(format="dbl")
        self._format = stream.container.format.name
        if self._format in TIMED_IN_PLACES:
            # A time is stated at least every 0.7 s; if it is damaged, so are the times derived from it up to the next.
            self.proof_s = Fraction(3, 4)
        self._first_rate: int | None = None
        self._rate_changed = False

    def put(self, packet: AvPacket[Any] | None) -> None:
        """Queue a packet; None ends the track."""
        # Only a packet with a position has a time that the container states.
        if packet is not None and packet.pos is None and self._format in TIMED_IN_PLACES:
            packet.pts = None
        super().put(packet)

    def take(self, origin: Fraction) -> AudioPacket:
        """Return the next piece of sound."""
        time, frame = self._decoded.popleft()
        if frame.format.name in ("s64", "s64p"):  # the only ones that numpy is not given
            (frame,) = self._to_doubles.resample(frame)
        samples = frame.to_ndarray()
        num_channels = len(frame.layout.channels)
        samples = samples.T if frame.format.is_planar else samples.reshape(-1, num_channels)
        return AudioPacket(samples, frame.sample_rate, float(time - origin))

    def _time_of(self, frame: av.AudioFrame) -> Fraction | None:
        if frame.samples == 0 or frame.sample_rate == 0:
            return None
        self._first_rate = self._first_rate or frame.sample_rate
        self._rate_changed |= frame.sample_rate != self._first_rate
        return self._expected if self._rate_changed and self._format in UNTIMED else self._stamped_time(frame)

    def _length_of(self, frame: av.AudioFrame) -> Fraction:
        return Fraction(frame.samples, frame.sample_rate)


class VideoTrack(Track[VideoStream, av.VideoFrame]):
    """Pictures, upright, in square pixels and RGB; where times are missing they follow from the frame rate.

    A frame that no tick would show, as every other one of a source at 50 frames a second, is left out before the costly
    conversion to RGB. To decide that takes the time of the next frame. The last two frames are always kept: the length
    of the last one is derived from them.

    AVI has no timestamps, only the order of decoding; where pictures are reordered (B-frames), the ``pts`` that FFmpeg
    derives from it run back and forth. For AVI the decoding times are used, less the decoder's delay.
    """

    lookahead = 3

    def __init__(self, stream: VideoStream) -> None:
        super().__init__(stream)
        self.num_out_of_order = 0
        self._interval = 1 / (frame_rate(stream) or DEFAULT_FPS)
        self._newest: Fraction | None = None
        self._taken: Fraction | None = None
        self._is_avi = stream.container.format.name == "avi"
        self._decoder_delay: Fraction | None = None
        self._to_rgb = RgbConverter(stream)

    def take(self, origin: Fraction) -> VideoFrame | None:
        """Remove the next picture and return it; None if no tick shows it, or if it cannot be converted."""
        time, frame = self._decoded.popleft()
        earlier, self._taken = self._taken, time
        if earlier is not None and len(self._decoded) >= 2:
            later = self._decoded[0][0]
            if not _is_nearest_to_a_tick(*(_to_us(each - origin) for each in (earlier, time, later))):
                return None
        try:
            return VideoFrame(self._to_rgb(frame), _to_us(time - origin))
        except (av.FFmpegError, ValueError):
            self.num_errors += 1
            return None

    def _time_of(self, frame: av.VideoFrame) -> Fraction | None:
        return self._decoding_time(frame) if self._is_avi else self._stamped_time(frame)

    def _end_of(self, time: Fraction, frame: av.VideoFrame) -> Fraction:
        return time + self._interval

    def _deliver(self, time: Fraction, frame: av.VideoFrame) -> None:
        if self._newest is not None and time <= self._newest:
            self.num_out_of_order += 1
            return
        self._newest = time
        super()._deliver(time, frame)

    def _length_of(self, frame: av.VideoFrame) -> Fraction:
        time_base = self._time_base_of(frame)
        return frame.duration * time_base if frame.duration and time_base else self._interval

    def _decoding_time(self, frame: av.VideoFrame) -> Fraction:
        time_base = self._time_base_of(frame)
        if frame.dts is None or time_base is None:
            return self._expected
        if self._decoder_delay is None:
            self._decoder_delay = frame.dts * time_base - self._expected
        return frame.dts * time_base - self._decoder_delay


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Return the frames a second that the container states or that its first packets show; None if neither does."""
    return stream.average_rate or stream.guessed_rate or None


def _is_nearest_to_a_tick(earlier_us: int, time_us: int, later_us: int) -> bool:
    first_tick = -(-(earlier_us + time_us) // (2 * TICK_US))
    last_tick = (time_us + later_us) // (2 * TICK_US)
    return first_tick <= last_tick


def _to_us(seconds: Fraction) -> int:
    return round(seconds * 1_000_000)
