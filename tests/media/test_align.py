"""Laws of the alignment of sound and pictures to ticks."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.media import AudioAligner, AudioAlignerState, AudioPacket, VideoAligner
from avsr.media.align import JITTER_S, MAX_HOLD_US, end_of, take_sound
from avsr.types import TICK_US, VideoFrame, VideoTick

RGB = np.zeros((2, 2, 3), dtype=np.uint8)


def _align_audio(packets):
    aligner = AudioAligner()
    state, parts = aligner.init_state(), []
    for packet in packets:
        aligned, state = aligner.step(packet, state)
        parts += aligned
    parts += aligner.flush(state)
    tick = 0
    for part in parts:
        assert (part[0] if isinstance(part, tuple) else part.start_tick) == tick < end_of(part)
        assert isinstance(part, tuple) or part.samples.shape == (640 * part.num_ticks,)
        tick = end_of(part)
    samples, heard, _ = take_sound(parts, 0, tick)
    return samples, heard, state


def _align_video(times_us):
    aligner = VideoAligner()
    state, ticks = aligner.init_state(), []
    for pts_us in times_us:
        aligned, state = aligner.step(VideoFrame(RGB, pts_us), state)
        ticks += list(aligned)
    return [*ticks, *aligner.flush(state)], state


def _noise(num_samples: int, channels: int = 1) -> np.ndarray:
    shape = (num_samples,) if channels == 1 else (num_samples, channels)
    return np.random.default_rng(7).integers(-9000, 9000, shape).astype(np.int16)


# Sound


@st.composite
def _segments(draw):
    """Stretches of sound, each at its own time, rate and number of channels: gaps and overlaps of every size."""
    segments, t_s = [], draw(st.sampled_from([-0.5, 0.0, 0.0, 0.333, 1.5]))
    for _ in range(draw(st.integers(1, 3))):
        rate_hz = draw(st.sampled_from([8000, 16000, 44100, 48000]))
        num_samples = draw(st.integers(1, rate_hz))
        segments.append((_noise(num_samples, draw(st.sampled_from([1, 2]))), rate_hz, t_s))
        t_s += num_samples / rate_hz + draw(st.sampled_from([-0.3, -0.05, 0.0, 0.01, 0.05, 2.0]))
    return segments


@settings(deadline=None, max_examples=40)
@given(segments=_segments(), data=st.data(), timed=st.booleans())
def test_packet_size_never_changes_aligned_audio(segments, data, timed):
    packets = []
    for samples, rate_hz, t_s in segments:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=6)))
        for start, part in zip([0, *cuts], np.split(samples, cuts), strict=True):
            # Only the first packet of a stretch needs its time; the others may have theirs or not.
            packets.append(AudioPacket(part, rate_hz, t_s + start / rate_hz if timed or start == 0 else None))
    samples, heard, state = _align_audio(packets)
    expected_samples, expected_heard, expected_state = _align_audio([AudioPacket(*segment) for segment in segments])
    np.testing.assert_array_equal(samples, expected_samples)
    np.testing.assert_array_equal(heard, expected_heard)
    assert state.dropped_samples == expected_state.dropped_samples


def test_step_leaves_the_state_it_is_given_alone():
    aligner = AudioAligner()
    _, state = aligner.step(AudioPacket(_noise(1000), 44100), aligner.init_state())
    packet = AudioPacket(_noise(3000), 44100)
    first, after_first = aligner.step(packet, state)
    again, after_again = aligner.step(packet, state)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    np.testing.assert_array_equal(after_first.pending, after_again.pending)
    assert first


@pytest.mark.parametrize(("num_alike", "jitter_s"), [(1, 0.49 * JITTER_S), (50, 0.006)])  # a tone has packets alike
def test_jitter_below_the_limit_is_ignored(num_alike, jitter_s):
    samples = np.tile(_noise(16000 // num_alike), num_alike)
    rng = np.random.default_rng(0)
    packets = [
        AudioPacket(
            samples[start : start + 320], 16000, start / 16000 + rng.choice([-jitter_s, jitter_s]) * (start > 0)
        )
        for start in range(0, 16000, 320)
    ]
    aligned, heard, state = _align_audio(packets)
    np.testing.assert_array_equal(aligned, samples.astype(np.float32) / 32768)
    assert heard.all()
    assert state.dropped_samples == 0


@settings(deadline=None, max_examples=30)
@given(
    rate_hz=st.sampled_from([8000, 16000, 44100, 48000]),
    sizes=st.lists(st.sampled_from([160, 320, 441, 960, 1024, 1764]), min_size=2, max_size=20),
    again=st.lists(st.integers(1, 3), min_size=20, max_size=20),
    error_s=st.sampled_from([0.0, 1e-9, -1e-9, 4e-4]),
)
def test_a_packet_that_comes_again_at_once_is_dropped_however_short_it_is(rate_hz, sizes, again, error_s):
    starts = np.cumsum([0, *sizes])
    parts = np.split(_noise(starts[-1]), starts[1:-1])
    once = [AudioPacket(part, rate_hz, start / rate_hz) for part, start in zip(parts, starts, strict=False)]
    more = [
        replace(packet, t_s=packet.t_s + bool(index) * error_s)
        for packet, times in zip(once, again, strict=False)
        for index in range(times)
        if not index or len(packet.samples) / rate_hz <= JITTER_S - 2e-3
    ]
    samples, heard, state = _align_audio(more)
    expected_samples, expected_heard, expected_state = _align_audio(once)
    np.testing.assert_array_equal(samples, expected_samples)
    np.testing.assert_array_equal(heard, expected_heard)
    num_again = sum(len(packet.samples) for packet in more) - starts[-1]
    assert abs(state.dropped_samples - expected_state.dropped_samples - num_again * 16000 / rate_hz) <= len(more)
    assert len(state.run.newest) <= JITTER_S * rate_hz / min(sizes) + 2


def test_silence_with_the_same_timestamp_twice_is_no_packet_that_came_twice():
    silence = np.zeros(160, np.float32)
    packets = [AudioPacket(silence, 16000, index // 2 * 0.02) for index in range(50)]
    _, heard, state = _align_audio(packets)
    assert heard[:12].all() and state.dropped_samples == 0


@settings(deadline=None, max_examples=60)
@given(
    first=st.integers(0, 9),
    stretches=st.lists(st.tuples(st.integers(1, 14), st.integers(4, 20)), min_size=1, max_size=6),
)
@example(first=0, stretches=[(2, 4)])  # half of the first tick
def test_gaps_are_zeros_that_say_so_and_time_is_kept(first, stretches):
    """A tick is heard when at least half of its samples came; pieces and gaps are in quarters of a tick."""
    quarters, packets = [0] * first, []
    for num_heard, num_missing in stretches:
        packets.append(AudioPacket(np.ones(num_heard * 160, np.float32), 16000, len(quarters) * 0.01))
        quarters += [1] * num_heard + [0] * num_missing
    quarters += [0] * (-len(quarters) % 4)
    aligned, heard, state = _align_audio(packets)
    expected = np.array(quarters).reshape(-1, 4)[: len(heard)]
    assert expected.sum() == sum(quarters) and expected[-1].any() and state.dropped_samples == 0
    np.testing.assert_array_equal(aligned, np.repeat(expected, 160))
    np.testing.assert_array_equal(heard, expected.sum(axis=1) >= 2)


def test_overlaps_and_what_lies_before_the_start_are_cut_and_counted():
    first, second = np.full(1600, 0.25, np.float32), np.full(1600, 0.5, np.float32)
    aligned, _, state = _align_audio([AudioPacket(first, 16000, -0.05), AudioPacket(second, 16000, 0.01)])
    np.testing.assert_array_equal(aligned[:800], first[:800])
    np.testing.assert_array_equal(aligned[800:1760], second[:960])
    assert state.dropped_samples == 800 + 640


@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_drifting_clock_never_leaves_its_timestamps_by_more_than_the_limit(drift):
    # One packet a second, the device's clock off by 200 ppm, half an hour; a click begins every packet.
    packet = np.zeros(16000, dtype=np.float32)
    packet[0] = 1.0
    aligner = AudioAligner()
    state, clicks = aligner.init_state(), []
    for index in range(1800):
        aligned, state = aligner.step(AudioPacket(packet, 16000, index * (1 + drift)), state)
        for piece in aligned:
            clicks += [piece.start_tick * 640 + int(place) for place in np.flatnonzero(piece.samples > 0.5)]
    clicks_s = np.array(clicks) / 16000
    expected_s = np.arange(1800) * (1 + drift)
    nearest_s = expected_s[np.clip(np.round(clicks_s / (1 + drift)).astype(int), 0, 1799)]
    assert len(clicks) >= 1770
    assert np.abs(clicks_s - nearest_s).max() <= JITTER_S + 1e-3
    # 0.2 ms a packet: the 151st is the first one beyond 30 ms.
    assert np.count_nonzero(np.diff(clicks) != 16000) == 1799 // 151


def test_rate_and_channels_may_change_inside_a_stream():
    tone = [np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate) for rate in (44100, 16000, 8000)]
    stereo = np.stack([tone[0], tone[0]], axis=1)
    packets = [AudioPacket(stereo, 44100, 0.0), AudioPacket(tone[1], 16000), AudioPacket(tone[2], 8000, 1.0)]
    aligned, heard, _ = _align_audio(packets)
    expected = np.sin(2 * np.pi * 440 * np.arange(24000) / 16000)
    error = np.abs(aligned[:24000] - expected)
    assert np.median(error) < 1e-3 and heard[:37].all() and len(heard) == 38


@pytest.mark.parametrize("timed", [False, True])
def test_sound_that_goes_on_at_another_rate_loses_nothing(timed):
    packets, t_s = [], 0.0
    for num_samples, rate_hz in [(1003, 16000), (1000, 44100), (1001, 22050), (999, 48000), (1000, 44100)] * 20:
        packets.append(AudioPacket(_noise(num_samples), rate_hz, t_s if timed else None))
        t_s += num_samples / rate_hz
    samples, heard, state = _align_audio(packets)
    assert state.dropped_samples == 0
    assert heard[:-1].all() and 0 <= len(samples) - t_s * 16000 < 640 + 100
    sounding = np.flatnonzero(samples)
    assert np.diff(sounding).max() <= 2 and 0 <= sounding[-1] + 1 - t_s * 16000 < 100  # a seam may take a sample


def test_an_hour_of_silence_costs_no_memory():
    aligner = AudioAligner()
    tracemalloc.start()
    aligned, state = aligner.step(AudioPacket(_noise(160), 16000, 3600.0), aligner.init_state())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert aligned == ((0, 90_000),)
    assert peak_bytes < 500_000
    assert len(state.pending) == 160


def test_state_does_not_grow_with_the_stream():
    aligner = AudioAligner()
    state = aligner.init_state()
    packet = AudioPacket(_noise(1024), 44100)
    sizes = []
    for _ in range(1500):
        _, state = aligner.step(packet, state)
        sizes.append(len(state.pending) + len(state.run.resampler.tail))
    assert max(sizes) < 1500


def test_advance_goes_on_without_sound_and_late_sound_is_dropped():
    aligner = AudioAligner()
    aligned, state = aligner.step(AudioPacket(np.ones(640, np.float32), 16000, 0.0), aligner.init_state())
    assert [piece.num_ticks for piece in aligned] == [1]
    waited, state = aligner.advance(5, state)
    assert waited == ((1, 4),)
    assert aligner.advance(3, state) == ((), state)
    late, state = aligner.step(AudioPacket(np.ones(640, np.float32), 16000, 0.08), state)
    assert late == () and state.dropped_samples == 640
    # Sound without a time goes on where the waiting ended.
    resumed, state = aligner.step(AudioPacket(np.ones(640, np.float32), 16000), aligner.advance(9, state)[1])
    assert [(piece.start_tick, piece.heard.tolist()) for piece in resumed] == [(9, [True])]


@settings(deadline=None, max_examples=40)
@given(
    start_sample=st.integers(640, 16_000),
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    cut_ms=st.integers(1, 30),
)
def test_giving_up_the_time_before_a_sound_begins_never_changes_it(start_sample, rate, cut_ms):
    """However little of it has come: its resampler may hold all of that back still."""
    samples, cut = _noise(rate // 5), max(1, rate * cut_ms // 1000)
    packets = [AudioPacket(samples[:cut], rate, start_sample / 16_000), AudioPacket(samples[cut:], rate)]
    expected, *_ = _align_audio(packets)
    aligner = AudioAligner()
    first, state = aligner.step(packets[0], aligner.init_state())
    given_up, state = aligner.advance(start_sample // 640, state)
    rest, state = aligner.step(packets[1], state)
    parts = [*first, *given_up, *rest, *aligner.flush(state)]
    assert np.array_equal(take_sound(parts, 0, end_of(parts[-1]))[0], expected)


def test_nothing_gives_nothing():
    aligner = AudioAligner()
    aligned, state = aligner.step(AudioPacket(np.zeros((0, 2)), 48000, 5.0), aligner.init_state())
    assert aligned == aligner.flush(state) == ()
    assert isinstance(state, AudioAlignerState) and state.frontier_sample == 0
    video = VideoAligner()
    assert list(video.flush(video.init_state())) == []


@pytest.mark.parametrize(
    "packet",
    [
        AudioPacket(np.zeros(10), 16000, float("nan")),
        AudioPacket(np.zeros(10), 16000, 10**400),
        AudioPacket(np.zeros(10), 300, 0.0),
        AudioPacket(np.zeros(10), None),
        AudioPacket(np.zeros(10), [16000]),
        AudioPacket(np.zeros((2, 2, 2)), 16000),
        AudioPacket(np.array(["a"]), 16000),
    ],
)
def test_packets_that_cannot_be_used_are_refused(packet):
    aligner = AudioAligner()
    with pytest.raises(InputError):
        aligner.step(packet, aligner.init_state())


# Pictures


@settings(deadline=None, max_examples=150)
@given(
    start_us=st.integers(-300_000, 700_000),
    gaps_us=st.lists(st.integers(-50_000, 120_000) | st.integers(300_000, 1_500_000), max_size=30),
)
def test_every_tick_shows_the_nearest_frame_or_none(start_us, gaps_us):
    times_us = np.cumsum([start_us, *gaps_us]).tolist()
    ticks, state = _align_video(times_us)
    kept_us, newest_us = [], None
    for pts_us in times_us:
        if newest_us is None or pts_us > newest_us:
            kept_us.append(pts_us)
            newest_us = pts_us
    assert state.dropped_frames == len(times_us) - len(kept_us)
    assert [tick.tick for tick in ticks] == list(range(len(ticks)))
    previous = None
    for tick in ticks:
        nearest_us = min(kept_us, key=lambda pts_us: abs(pts_us - tick.tick * TICK_US))
        if abs(nearest_us - tick.tick * TICK_US) > MAX_HOLD_US:
            assert tick.frame is None
        else:
            assert tick.frame is not None and tick.frame.pts_us == nearest_us
        assert tick.repeated == (tick.frame is not None and tick.frame is previous)
        previous = tick.frame
    assert len(ticks) >= max(kept_us) // TICK_US


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 30, 50, 60])
@pytest.mark.parametrize("start_us", [0, 7_000, 25_000])
def test_skew_is_at_most_half_a_tick_from_25_frames_a_second_on(fps, start_us):
    ticks, _ = _align_video([start_us + round(index * 1e6 / fps) for index in range(200)])
    inside = [tick for tick in ticks if start_us <= tick.tick * TICK_US <= start_us + 198e6 / fps]
    assert max(abs(tick.frame.pts_us - tick.tick * TICK_US) for tick in inside) <= TICK_US // 2
    assert not any(tick.repeated for tick in inside[1:])


@pytest.mark.parametrize("fps", [10, 12, 15, 24, 25, 30, 50, 60, 30000 / 1001])
def test_number_of_ticks_is_the_duration(fps):
    for num_frames in (2, 7, 60):
        # Milliseconds, as Matroska keeps them.
        ticks, _ = _align_video([round(index * 1e3 / fps) * 1000 for index in range(num_frames)])
        assert -0.1 < len(ticks) - num_frames / fps / 0.04 < 1
    assert len(_align_video([0])[0]) == 1


def test_at_25_frames_a_second_nothing_waits_and_nothing_repeats():
    aligner = VideoAligner()
    state = aligner.init_state()
    for index in range(50):
        frame = VideoFrame(RGB, index * TICK_US)
        aligned, state = aligner.step(frame, state)
        assert list(aligned) == [VideoTick(index, frame, repeated=False)]
    assert list(aligner.flush(state)) == []


def test_slow_sources_repeat_their_frames():
    ticks, _ = _align_video([0, 100_000, 200_000])
    assert [tick.frame.pts_us // 1000 for tick in ticks] == [0, 0, 100, 100, 200, 200, 200, 200]
    assert [tick.repeated for tick in ticks] == [False, True, False, True, False, True, True, True]


def test_a_gap_of_ten_minutes_is_made_lazily():
    aligner = VideoAligner()
    _, state = aligner.step(VideoFrame(RGB, 0), aligner.init_state())
    tracemalloc.start()
    aligned, state = aligner.step(VideoFrame(RGB, 600_000_000), state)
    head = [tick.frame is None for tick in islice(aligned, 20)]
    num_ticks = sum(1 for _ in aligned)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert head == [False] * 5 + [True] * 15
    assert num_ticks == 15_000 and state.next_tick == 15_001
    assert peak_bytes < 100_000


def test_advance_goes_on_without_pictures_and_takes_them_up_again():
    aligner = VideoAligner()
    frame = VideoFrame(RGB, 0)
    _, state = aligner.step(frame, aligner.init_state())
    aligned, after = aligner.advance(8, state)
    assert [tick.frame is frame for tick in aligned] == [True] * 5 + [False] * 2
    assert state == replace(state) and after.next_tick == 8
    late, after = aligner.step(VideoFrame(RGB, 200_000), after)
    assert list(late) == [] and after.dropped_frames == 1
    # Tick 7 was given up as well, but tick 8 may show this one.
    late, after = aligner.step(VideoFrame(RGB, 290_000), after)
    assert list(late) == [] and after.dropped_frames == 1
    resumed, _ = aligner.step(VideoFrame(RGB, 330_000), after)
    assert [(tick.tick, tick.frame.pts_us) for tick in resumed] == [(8, 330_000)]
