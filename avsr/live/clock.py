"""One clock for two devices: the microphone's.

    camera's clock ──► host's clock ──► microphone's clock = stream time
      (Line)                     (Line, backwards)

Two quartz clocks differ by up to some hundred parts per million: after an hour, by most of a second. Sound is not
resampled to make up for it: its samples are the clock, as in a recording, and pictures are placed on it. How fast a
device's clock runs against the host's is estimated from when its captures arrived. Jitter only makes arrivals late,
never early, so a straight line is fitted to each second's earliest arrival over the last two minutes. The latency that
a driver states (from the ADC time) shifts the whole line, but slowly: it is right in the long run, and may be far off
for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from avsr.media.capture import Picture, Sound

BIN_S = 1.0
"""Of each such span of the device's clock only the earliest arrival is kept."""
MAX_BINS = 120
"""Arrivals kept: two minutes."""
MIN_BINS = 10
"""With fewer, both clocks are assumed to run equally fast."""
MAX_DRIFT = 0.002
"""Limit of the estimated drift (2000 ppm)."""
JUMP_S = 0.1
"""If all arrivals of a second are this much later than the line predicts, captures were lost before them."""
LATENCY_STEP = 0.01
"""How fast the latency in use follows what the driver states, seconds per second."""
FAR_S = 1.0
"""A single arrival this late is enough to conclude that captures were lost."""


@dataclass(frozen=True, slots=True)
class Line:
    """Maps a device's clock to the host's: ``host_s = device_s + delay``, where the delay is a line through arrivals.

    The line has the value ``delay_s`` at ``at_s`` of the device, and ``slope`` is the drift. ``bins`` hold (device_s,
    delay) of the earliest arrival of each second. ``run`` counts the jumps of the device's clock; each restarts the
    line.
    """

    bins: tuple[tuple[float, float], ...] = ()
    slope: float = 0.0
    at_s: float = 0.0
    delay_s: float = 0.0
    run: int = 0

    def seen(self, device_s: float, host_s: float) -> Line:
        """Return the line after one more arrival."""
        delay_s = host_s - device_s
        if not self.bins:
            return Line(((device_s, delay_s),), 0.0, device_s, delay_s, self.run)
        late_s = host_s - self.host_s(device_s)
        if late_s < -JUMP_S or late_s > FAR_S:
            # This early: everything before it had been delayed. This late: captures were lost.
            return Line(((device_s, delay_s),), 0.0, device_s, delay_s, self.run + (late_s > 0))
        first_s, least_s = self.bins[-1]
        if device_s // BIN_S == first_s // BIN_S:
            if delay_s >= least_s:
                return self
            bins = (*self.bins[:-1], (device_s, delay_s))
            return replace(self, bins=bins) if len(bins) >= MIN_BINS else _flat(replace(self, bins=bins))
        if least_s + first_s - self.host_s(first_s) > JUMP_S:
            return Line(((device_s, delay_s),), 0.0, device_s, delay_s, self.run + 1)
        line = _fitted(self)
        return replace(line, bins=(*line.bins, (device_s, delay_s))[-MAX_BINS:])

    def host_s(self, device_s: float) -> float:
        """Return the host's time of a device's time, seconds."""
        return device_s + self.delay_s + self.slope * (device_s - self.at_s)

    def device_s(self, host_s: float) -> float:
        """Return the device's time of a host's time, seconds."""
        return self.at_s + (host_s - self.delay_s - self.at_s) / (1 + self.slope)


@dataclass(frozen=True, slots=True)
class Clock:
    """Stream time, seconds since ``origin_s`` of the host; a value, like every state.

    While the microphone runs, stream time is its sample clock plus ``shift_s``; ``latency_s`` is the time from a
    sound's capture to its arrival. Before that, stream time runs with the host's clock; after the microphone is lost,
    it continues at the rate that was last known. ``shift_s`` holds for run ``sound_run`` of the line ``sound``.
    """

    origin_s: float
    sound: Line = Line()
    pictures: Line = Line()
    shift_s: float = 0.0
    latency_s: float = 0.0
    sound_run: int | None = None

    def place_sound(self, sound: Sound) -> tuple[float, Clock]:
        """Return the stream time of a packet's first sample, and the clock that follows."""
        line = self.sound.seen(sound.device_s, sound.host_s)
        if line.run == self.sound_run:
            step_s = LATENCY_STEP * sound.duration_s
            latency_s = self.latency_s + min(max(sound.latency_s - self.latency_s, -step_s), step_s)
            return sound.device_s + self.shift_s, replace(self, sound=line, latency_s=latency_s)
        # The first sound, or the first after a break: placed by the host's clock, as pictures are.
        start_s = self.stream_s(sound.host_s - self.latency_s)
        return start_s, replace(self, sound=line, sound_run=line.run, shift_s=start_s - sound.device_s)

    def place_picture(self, picture: Picture) -> tuple[float, Clock]:
        """Return the stream time of a picture, and the clock that follows."""
        if picture.device_s is None:
            return self.stream_s(picture.host_s), self
        line = self.pictures.seen(picture.device_s, picture.host_s)
        return self.stream_s(line.host_s(picture.device_s)), replace(self, pictures=line)

    def lose(self, *, sound: bool) -> Clock:
        """Return the clock after a device is lost: one that is opened later counts from another origin."""
        if not sound:
            return replace(self, pictures=Line())
        if self.sound_run is None:
            return self
        # The line without its arrivals: stream time continues along it.
        line = Line(slope=self.sound.slope, at_s=self.sound.at_s, delay_s=self.sound.delay_s, run=self.sound.run + 1)
        return replace(self, sound=line)

    def stream_s(self, host_s: float) -> float:
        """Return the stream time of a host's time."""
        if self.sound_run is None:
            return host_s - self.origin_s
        return self.sound.device_s(host_s + self.latency_s) + self.shift_s

    def host_s(self, stream_s: float) -> float:
        """Return the host's time of a stream time."""
        if self.sound_run is None:
            return stream_s + self.origin_s
        return self.sound.host_s(stream_s - self.shift_s) - self.latency_s


def _flat(line: Line) -> Line:
    at_s, delay_s = min(line.bins, key=lambda arrival: arrival[1])
    return replace(line, slope=0.0, at_s=at_s, delay_s=delay_s)


def _fitted(line: Line) -> Line:
    """Return the line through its bins: their least squares, moved down to lie below most of them."""
    if len(line.bins) < MIN_BINS:
        return _flat(line)
    times, delays = np.array(line.bins).T
    middle_s = float(times.mean())
    centred = times - middle_s
    slope = float(np.dot(centred, delays) / np.dot(centred, centred))
    slope = min(max(slope, -MAX_DRIFT), MAX_DRIFT)
    residuals = delays - slope * centred
    # A quantile, not the minimum: a single arrival may be early by mistake.
    return replace(line, slope=slope, at_s=middle_s, delay_s=float(np.quantile(residuals, 0.25)))
