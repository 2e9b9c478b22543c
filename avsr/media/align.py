"""Sound and pictures of any rate, placed on absolute ticks by their timestamps.

Time is never shifted to make things fit: what is missing becomes a tick that says so (`heard` False, `frame` None),
what comes twice or too late is dropped and counted. Both aligners are stages. In their output a gap takes the same
little memory however long it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from avsr.errors import InputError
from avsr.media.resample import ResamplerState, resampler_for, to_mono
from avsr.types import SAMPLE_RATE, TICK_SAMPLES, TICK_US, AudioTicks, BoolArray, FloatArray, VideoFrame, VideoTick

JITTER_S = 0.03
"""Audio timestamps that differ by at most this from the running sample clock are ignored; others reset the clock."""
SAME_TIME_S = 0.0005
"""A packet with the same samples as a recent one is a duplicate if their times differ by less than this, and by less
than half the packet's length."""
MAX_TIME_S = 1e11
"""A timestamp beyond this is nonsense; time since 1970 is not."""
MAX_HOLD_US = 200_000
"""A picture is shown at most this long before or after its own time."""
ROUNDING_US = 2_000
"""Containers round times, often to whole milliseconds; an excess of this much adds no tick at the end."""


def is_time(t_s: object) -> bool:
    """Tell whether this is a number of seconds that a timestamp may have."""
    return isinstance(t_s, int | float | np.integer | np.floating) and bool(-MAX_TIME_S <= t_s <= MAX_TIME_S)


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """Sound as it arrives: ``samples`` (n,) or (n, channels), any type that `to_mono` takes, at ``sample_rate`` Hz.

    ``t_s`` is the stream time of the first sample in seconds; None means where the packet before it ended.
    """

    samples: npt.NDArray[Any]
    sample_rate: int
    t_s: float | None = None


Packet = AudioPacket | VideoFrame
"""What a source delivers."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Unbroken sound on one sample clock: ``num_samples`` at ``sample_rate`` since ``start_sample`` (at 16 kHz).

    ``newest`` holds (timestamp, identity) of the packets that began less than `JITTER_S` before the run's end.
    """

    sample_rate: int
    start_sample: int
    num_samples: int
    resampler: ResamplerState
    newest: tuple[tuple[float, tuple[int, int]], ...] = ()

    @property
    def end_s(self) -> float:
        return self.start_sample / SAMPLE_RATE + self.num_samples / self.sample_rate

    @property
    def next_sample(self) -> int:
        return self.start_sample + self.resampler.next_sample

    def has_taken(self, t_s: float, identity: tuple[int, int], duration_s: float) -> bool:
        """Tell whether this packet is a duplicate of one of the newest."""
        most_s = min(SAME_TIME_S, duration_s / 2)
        return any(abs(t_s - known_s) < most_s and identity == known for known_s, known in self.newest)

    def noting(self, t_s: float, identity: tuple[int, int]) -> _Run:
        """Return the run with a packet added to the newest."""
        since_s = self.end_s - JITTER_S - SAME_TIME_S
        newest = (*self.newest, (t_s, identity))
        return replace(self, newest=tuple(packet for packet in newest if packet[0] >= since_s))


@dataclass(frozen=True, slots=True)
class AudioAlignerState:
    """Where the aligned audio ends, and the samples so far of the tick in which it ends.

    ``frontier_sample`` is the next sample at 16 kHz; ``pending`` f32 (fewer than 640,) are the samples before it that
    do not fill a tick yet, of which ``pending_delivered`` came and the rest are filled in. ``run`` is the current run.
    ``dropped_samples`` (at 16 kHz) came too late or twice since the start of the stream.
    """

    frontier_sample: int = 0
    pending: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    pending_delivered: int = 0
    run: _Run | None = None
    dropped_samples: int = 0


SoundPart = AudioTicks | tuple[int, int]
"""Ticks of sound, or (start_tick, num_ticks) where nothing was heard."""


class AudioAligner:
    """The stage from packets of sound to ticks of 640 samples at 16 kHz.

    Packets whose timestamps stay within 30 ms of the running sample clock make one unbroken run of sound; the jitter of
    the timestamps is ignored, since to follow it would click. A timestamp further off (a gap, an overlap, or the sum of
    a slow drift between clocks) is honoured: the gap is filled with zeros, the overlap is cut from the newer packet. A
    duplicate of a packet is dropped even where it is shorter than 30 ms, and so could pass for jitter.
    The rate and the channels may change from packet to packet. A tick is heard when at least half of its samples came.
    """

    def init_state(self) -> AudioAlignerState:
        """Return the state of a stream that has not begun."""
        return AudioAlignerState()

    def step(self, packet: AudioPacket, state: AudioAlignerState) -> tuple[tuple[SoundPart, ...], AudioAlignerState]:
        """Take a packet; return the ticks that it completes.

        Raises:
            InputError: the samples, the rate or the time of the packet cannot be used.
        """
        mono = to_mono(packet.samples)
        resampler = resampler_for(packet.sample_rate)
        if packet.t_s is not None and not is_time(packet.t_s):
            raise InputError(f"An audio packet has the time {packet.t_s!r}; give seconds since the start, or None.")
        if len(mono) == 0:
            return (), state
        run, duration_s = state.run, len(mono) / packet.sample_rate
        identity = packet.sample_rate, zlib.crc32(mono.tobytes())
        is_telling = mono.min() < mono.max()  # all digital silence is alike, so equality proves nothing there
        if (
            run is not None
            and packet.t_s is not None
            and is_telling
            and run.has_taken(packet.t_s, identity, duration_s)
        ):
            num_dropped = state.dropped_samples + round(duration_s * SAMPLE_RATE)
            return (), replace(state, dropped_samples=num_dropped)
        writer = _Writer(state)
        if run is None:
            start_sample = state.frontier_sample if packet.t_s is None else round(packet.t_s * SAMPLE_RATE)
            run = _Run(packet.sample_rate, start_sample, 0, resampler.init_state())
        else:
            start_s = run.end_s if packet.t_s is None or abs(packet.t_s - run.end_s) <= JITTER_S else packet.t_s
            if start_s != run.end_s or packet.sample_rate != run.sample_rate:
                writer.end_run(run)
                start_sample = round(start_s * SAMPLE_RATE)
                # The run that ended may extend into the sample at which the new one begins; begin one later, then.
                start_sample += writer.frontier_sample == start_sample + 1
                run = _Run(packet.sample_rate, start_sample, 0, resampler.init_state())
        output, resampler_state = resampler.step(mono, run.resampler)
        writer.write(output, run.next_sample)
        run = replace(run, num_samples=run.num_samples + len(mono), resampler=resampler_state)
        return writer.result(run if packet.t_s is None else run.noting(packet.t_s, identity))

    def advance(self, tick: int, state: AudioAlignerState) -> tuple[tuple[SoundPart, ...], AudioAlignerState]:
        """Give up waiting for sound before ``tick``; return the ticks up to it, with silence where nothing came.

        What comes later for the time before it is dropped and counted; a packet without a time continues at ``tick``.
        """
        if tick * TICK_SAMPLES <= state.frontier_sample:
            return (), state
        writer, run = _Writer(state), state.run
        if run is not None and run.next_sample < tick * TICK_SAMPLES:  # else it begins later, and is kept
            writer.end_run(run)
            run = None
        writer.silence(tick * TICK_SAMPLES - writer.frontier_sample)
        return writer.result(run)

    def flush(self, state: AudioAlignerState) -> tuple[SoundPart, ...]:
        """Return what is left; the last tick is filled up with zeros."""
        writer = _Writer(state)
        if state.run is not None:
            writer.end_run(state.run)
        writer.silence(-writer.frontier_sample % TICK_SAMPLES)
        return writer.result(None)[0]


def end_of(part: SoundPart) -> int:
    """Return the tick at which a part of the sound ends."""
    return part[0] + part[1] if isinstance(part, tuple) else part.start_tick + part.num_ticks


def take_sound(
    parts: Sequence[SoundPart], start_tick: int, stop_tick: int
) -> tuple[FloatArray, BoolArray, tuple[SoundPart, ...]]:
    """Cut [start_tick, stop_tick) off the front of ``parts``; silence where they end before.

    Return samples f32 (640 n,), heard bool (n,) and the parts that are left. Parts of silence are not cut: only where
    they end matters.
    """
    num_ticks = stop_tick - start_tick
    samples, heard = np.zeros(num_ticks * TICK_SAMPLES, np.float32), np.zeros(num_ticks, np.bool_)
    rest: list[SoundPart] = []
    for part in parts:
        if isinstance(part, tuple):
            if end_of(part) > stop_tick:
                rest.append(part)
            continue
        taken = min(max(0, stop_tick - part.start_tick), part.num_ticks)
        at = part.start_tick - start_tick
        samples[at * TICK_SAMPLES : (at + taken) * TICK_SAMPLES] = part.samples[: taken * TICK_SAMPLES]
        heard[at : at + taken] = part.heard[:taken]
        if taken < part.num_ticks:
            rest.append(AudioTicks(part.samples[taken * TICK_SAMPLES :], part.heard[taken:], part.start_tick + taken))
    return samples, heard, tuple(rest)


class _Writer:
    """Lays samples and silence onto ticks; lives for one step, so the state it began with is never touched."""

    def __init__(self, state: AudioAlignerState) -> None:
        self.frontier_sample = state.frontier_sample
        self._pending, self._delivered = state.pending, state.pending_delivered
        self._dropped = state.dropped_samples
        self._parts: list[SoundPart] = []

    def write(self, samples: FloatArray, start_sample: int) -> None:
        """Place f32 (n,) at ``start_sample``: silence fills the way there, what lies before the frontier is dropped."""
        if len(samples) == 0:
            return
        self.silence(start_sample - self.frontier_sample)
        num_late = min(len(samples), self.frontier_sample - start_sample)
        self._dropped += num_late
        self._append(samples[num_late:], delivered=True)

    def silence(self, num_samples: int) -> None:
        """Go on by ``num_samples`` that never came; a number below 1 does nothing."""
        if num_samples <= 0:
            return
        to_boundary = min(num_samples, -self.frontier_sample % TICK_SAMPLES)
        self._append(np.zeros(to_boundary, dtype=np.float32), delivered=False)
        num_ticks, rest = divmod(num_samples - to_boundary, TICK_SAMPLES)
        if num_ticks:
            self._parts.append((self.frontier_sample // TICK_SAMPLES, num_ticks))
            self.frontier_sample += num_ticks * TICK_SAMPLES
        self._append(np.zeros(rest, dtype=np.float32), delivered=False)

    def end_run(self, run: _Run) -> None:
        """Place what the resampler of ``run`` still holds."""
        self.write(resampler_for(run.sample_rate).flush(run.resampler), run.next_sample)

    def result(self, run: _Run | None) -> tuple[tuple[SoundPart, ...], AudioAlignerState]:
        """Return the ticks completed and the state that follows."""
        state = AudioAlignerState(self.frontier_sample, self._pending, self._delivered, run, self._dropped)
        return tuple(self._parts), state

    def _append(self, samples: FloatArray, *, delivered: bool) -> None:
        start_tick = self.frontier_sample // TICK_SAMPLES
        self.frontier_sample += len(samples)
        samples = np.concatenate([self._pending, samples])
        num_new = len(samples) - len(self._pending)
        num_ticks = len(samples) // TICK_SAMPLES
        whole, self._pending = samples[: num_ticks * TICK_SAMPLES], samples[num_ticks * TICK_SAMPLES :].copy()
        if num_ticks == 0:
            self._delivered += num_new if delivered else 0
            return
        first = self._delivered + (num_new - len(samples) + TICK_SAMPLES if delivered else 0)
        heard = np.full(num_ticks, delivered, dtype=np.bool_)
        heard[0] = 2 * first >= TICK_SAMPLES
        self._parts.append(AudioTicks(whole, heard, start_tick))
        self._delivered = len(self._pending) if delivered else 0


@dataclass(frozen=True, slots=True)
class VideoAlignerState:
    """``next_tick`` is decided next; ``latest`` is the newest frame, ``interval_us`` its distance from the one before.

    ``shown`` is the frame of the tick before ``next_tick``. ``dropped_frames`` came out of order, or after the tick at
    their own time had been given up.
    """

    next_tick: int = 0
    latest: VideoFrame | None = None
    shown: VideoFrame | None = None
    interval_us: int = TICK_US
    dropped_frames: int = 0


@dataclass(frozen=True, slots=True)
class AlignedVideo:
    """The ticks from ``start_tick`` to before ``stop_tick``; iterate as often as you like.

    Each shows the nearer of the frames ``before`` and ``after``; ``shown`` is the frame of the tick before
    ``start_tick``.
    """

    start_tick: int
    stop_tick: int
    before: VideoFrame | None = None
    after: VideoFrame | None = None
    shown: VideoFrame | None = None

    def __iter__(self) -> Iterator[VideoTick]:
        """Yield the ticks in order; each is made as it is asked for."""
        previous = self.shown
        for tick in range(self.start_tick, self.stop_tick):
            frame = self._nearest(tick)
            yield VideoTick(tick, frame, repeated=frame is not None and frame is previous)
            previous = frame

    @property
    def last_shown(self) -> VideoFrame | None:
        """The frame of the last tick, or of the tick before where there are none."""
        return self._nearest(self.stop_tick - 1) if self.stop_tick > self.start_tick else self.shown

    def _nearest(self, tick: int) -> VideoFrame | None:
        frames = [frame for frame in (self.before, self.after) if frame is not None]
        nearest = min(frames, key=lambda frame: abs(frame.pts_us - tick * TICK_US), default=None)
        return nearest if nearest is not None and abs(nearest.pts_us - tick * TICK_US) <= MAX_HOLD_US else None


class VideoAligner:
    """The stage from frames at any times to one picture a tick (25 a second).

    Tick k is the moment 40 ms * k and shows the frame nearest to it, the earlier one of two equally near, so that
    pictures of a source with at least 25 frames a second are at most 20 ms off. It is decided by the first frame at or
    after that moment, since no later frame can be nearer. At exactly 25 frames a second nothing waits. Slower sources
    repeat frames; where no frame is within 200 ms the tick has none. A frame that is not newer than the one before it
    is dropped and counted. One that comes after the tick at its own time was given up is counted too, though later
    ticks may still show it while it is the nearest.
    """

    def init_state(self) -> VideoAlignerState:
        """Return the state of a stream that has not begun."""
        return VideoAlignerState()

    def step(self, frame: VideoFrame, state: VideoAlignerState) -> tuple[AlignedVideo, VideoAlignerState]:
        """Take a frame; return the ticks that it decides."""
        if state.latest is not None and frame.pts_us <= state.latest.pts_us:
            dropped = replace(state, dropped_frames=state.dropped_frames + 1)
            return AlignedVideo(state.next_tick, state.next_tick), dropped
        stop_tick = max(state.next_tick, frame.pts_us // TICK_US + 1)
        ticks = AlignedVideo(state.next_tick, stop_tick, state.latest, frame, state.shown)
        interval_us = TICK_US if state.latest is None else frame.pts_us - state.latest.pts_us
        # Before tick 0 nothing was given up: the stream had not begun.
        is_late = state.next_tick > 0 and frame.pts_us < (state.next_tick - 1) * TICK_US
        num_dropped = state.dropped_frames + is_late
        return ticks, VideoAlignerState(stop_tick, frame, ticks.last_shown, interval_us, num_dropped)

    def advance(self, tick: int, state: VideoAlignerState) -> tuple[AlignedVideo, VideoAlignerState]:
        """Give up waiting for frames that would decide the ticks before ``tick``; return those ticks."""
        ticks = AlignedVideo(state.next_tick, max(state.next_tick, tick), state.latest, None, state.shown)
        return ticks, replace(state, next_tick=ticks.stop_tick, shown=ticks.last_shown)

    def flush(self, state: VideoAlignerState) -> AlignedVideo:
        """Return the ticks that the last frame still covers: it lasts as long as the one before it, at most 200 ms."""
        end_us = 0
        if state.latest is not None:
            end_us = state.latest.pts_us + min(state.interval_us, MAX_HOLD_US) - ROUNDING_US
        return self.advance(-(-end_us // TICK_US), state)[0]
