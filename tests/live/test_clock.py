"""Two devices, each with a quartz of its own, stay together for as long as they run."""

from __future__ import annotations

import numpy as np
import pytest

from avsr.live.clock import Clock, Line
from avsr.media.capture import Picture, Sound

RGB = np.zeros((4, 4, 3), np.uint8)
ORIGIN_S = 5_000.0


def sound(device_s: float, host_s: float) -> Sound:
    return Sound(np.zeros(320, np.int16), 16_000, device_s, host_s)


class Pair:
    """A microphone and a camera whose clocks are wrong by so many ppm; what they deliver arrives late by chance."""

    def __init__(self, mic_ppm: float, camera_ppm: float | None, jitter_s: float = 0.03, seed: int = 1) -> None:
        self.mic_rate, self.rng, self.jitter_s = 1 + mic_ppm * 1e-6, np.random.default_rng(seed), jitter_s
        self.camera_rate = None if camera_ppm is None else 1 + camera_ppm * 1e-6
        self.clock = Clock(ORIGIN_S)

    def late_s(self) -> float:
        return float(self.rng.exponential(self.jitter_s / 3))

    def hear(self, true_s: float, shift_s: float = 0.0) -> float:
        """The stream time given to the sound of a moment, less the one it should have."""
        time_s, self.clock = self.clock.place_sound(
            sound(true_s * self.mic_rate + shift_s, ORIGIN_S + true_s + self.late_s())
        )
        return time_s

    def see(self, true_s: float) -> float:
        host_s = ORIGIN_S + true_s + self.late_s()
        device_s = None if self.camera_rate is None else 700.0 + true_s * self.camera_rate
        if device_s is None:
            host_s = ORIGIN_S + true_s  # the driver's own time of the picture
        time_s, self.clock = self.clock.place_picture(Picture(RGB, host_s, device_s))
        return time_s


@pytest.mark.parametrize(("mic_ppm", "camera_ppm"), [(200, -200), (-200, None), (0, 0)])
def test_after_an_hour_of_drift_sound_and_pictures_are_within_20_ms(mic_ppm: float, camera_ppm: float | None) -> None:
    pair = Pair(mic_ppm, camera_ppm)
    worst_s = 0.0
    for step in range(3600 * 2):  # two captures a second of each are enough to see it
        true_s = step / 2
        heard_s, seen_s = pair.hear(true_s), pair.see(true_s)
        if true_s > 5:
            worst_s = max(worst_s, abs(heard_s - seen_s))
    assert worst_s < 0.02
    assert len(pair.clock.sound.bins) <= 120
    assert 1e6 * (pair.clock.sound.slope - pair.clock.pictures.slope) == pytest.approx(
        (camera_ppm or 0) - mic_ppm, abs=60
    )


def test_sound_is_never_stretched_nor_cut() -> None:
    pair = Pair(200, None)
    times = [pair.hear(index * 0.02) for index in range(6000)]
    assert times[0] == pytest.approx(0.0, abs=0.05)
    assert np.allclose(np.diff(times), 0.02 * (1 + 200e-6), atol=1e-9)


def test_before_and_without_a_microphone_the_hosts_clock_counts() -> None:
    pair = Pair(0, None)
    assert pair.see(2.0) == pytest.approx(2.0)
    assert pair.clock.host_s(2.0) == pytest.approx(ORIGIN_S + 2.0)


def test_a_microphone_that_comes_back_is_placed_after_its_gap() -> None:
    pair = Pair(150, None, jitter_s=0.0)
    for step in range(3000):
        pair.hear(step / 50)
    last_s = pair.hear(60.0)
    pair.clock = pair.clock.lose(sound=True)
    assert pair.see(65.0) - last_s == pytest.approx(5.0, abs=0.005)
    heard_s = pair.hear(70.0, shift_s=-1234.0)  # it counts from elsewhere now
    assert heard_s - last_s == pytest.approx(10.0, abs=0.005)
    assert pair.hear(70.5, shift_s=-1234.0) - heard_s == pytest.approx(0.5, abs=1e-3)
    assert pair.see(70.5) == pytest.approx(heard_s + 0.5, abs=0.005)


def test_time_lost_without_a_word_is_found_out() -> None:
    """A driver that drops two seconds of samples counts on as if nothing had been."""
    pair = Pair(0, None, jitter_s=0.01)
    for step in range(1000):
        pair.hear(step / 50)
    for step in range(1000, 1200):
        heard_s, seen_s = pair.hear(2 + step / 50, shift_s=-2.0), pair.see(2 + step / 50)
    assert abs(heard_s - seen_s) < 0.02


def test_a_late_burst_moves_nothing() -> None:
    pair = Pair(0, None, jitter_s=0.0)
    for step in range(1000):
        pair.hear(step / 50)
    burst = [pair.clock.place_sound(sound(20 + step / 50, ORIGIN_S + 20.6))[0] for step in range(30)]
    for step in range(30):
        _, pair.clock = pair.clock.place_sound(sound(20 + step / 50, ORIGIN_S + 20.6))
    assert np.allclose(np.diff(burst), 0.02)
    assert pair.see(30.0) == pytest.approx(30.0, abs=0.005)


def test_what_the_driver_says_of_its_latency_is_believed_in_time() -> None:
    pair = Pair(0, None, jitter_s=0.0)
    for step in range(1500):
        told_s = 0.7 if step < 50 else 0.06  # a sound server that wakes, at first
        heard_s, pair.clock = pair.clock.place_sound(
            Sound(np.zeros(320, np.int16), 16_000, step / 50, ORIGIN_S + 0.06 + step / 50, told_s)
        )
    assert heard_s == pytest.approx(0.06 + 1499 / 50)
    assert pair.see(1499 / 50) == pytest.approx(heard_s, abs=0.005)
    assert pair.clock.host_s(heard_s) == pytest.approx(ORIGIN_S + 1499 / 50, abs=0.005)


def test_sound_that_waited_somewhere_is_not_cut_when_it_catches_up() -> None:
    clock, times = Clock(ORIGIN_S), []
    for step in range(500):
        waited_s = max(0.0, 0.4 - step / 100)
        time_s, clock = clock.place_sound(sound(step / 50, ORIGIN_S + step / 50 + waited_s))
        times.append(time_s)
    assert np.allclose(np.diff(times), 0.02)
    assert clock.place_picture(Picture(RGB, ORIGIN_S + 9.98))[0] == pytest.approx(times[-1], abs=0.005)


def test_a_camera_that_starts_counting_again_is_followed() -> None:
    line = Line()
    for second in range(60):
        line = line.seen(1000.0 + second, ORIGIN_S + second)
    line = line.seen(0.0, ORIGIN_S + 60)
    assert line.host_s(0.5) == pytest.approx(ORIGIN_S + 60.5)
    assert line.run == 1
