"""Where files were joined, times go on, of both senses alike; a damaged time alone moves nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from media_clips import align, even_times_s, write_clip

from avsr.media import open_media
from avsr.media.joins import AHEAD_S, BACK_S, MAX_HELD, WRAP_S, JoinedTimes
from avsr.types import TICK_S

SOUND, PICTURES = 0, 1
CLOCK = Fraction(1, 90_000)


@dataclass
class FakePacket:
    """What `JoinedTimes` knows of a packet."""

    stream_index: int
    pts: int | None
    duration: int
    time_base: Fraction = CLOCK
    name: tuple[int, ...] = ()
    has_dts: bool = True

    @property
    def dts(self) -> int | None:
        """The same, or not stated."""
        return self.pts if self.has_dts else None

    @property
    def stream(self) -> SimpleNamespace:
        """Its track."""
        return SimpleNamespace(type="video" if self.stream_index == PICTURES else "audio")

    @dts.setter
    def dts(self, _: int | None) -> None:
        pass


def piece(number: int, begins_s: float, length_s: float) -> list[FakePacket]:
    """Sound in steps of 24 ms and pictures in steps of 40, in the order of their times."""
    packets = []
    for stream, step_s in ((SOUND, 0.024), (PICTURES, 0.04)):
        step = round(step_s / CLOCK)
        for index in range(int(length_s / step_s)):
            packets.append(FakePacket(stream, round(begins_s / CLOCK) + index * step, step, name=(number, index)))
    return sorted(packets, key=lambda packet: cast(int, packet.pts))


def placed(packets: Sequence[FakePacket]) -> tuple[list[FakePacket], JoinedTimes]:
    """All that comes out, and what placed it."""
    times, out = JoinedTimes(), []
    for packet in packets:
        out += times.place(cast(Any, replace(packet)))
    return cast(list[FakePacket], [*out, *times.flush()]), times


def seconds(packet: FakePacket) -> float:
    assert packet.pts is not None
    return float(packet.pts * packet.time_base)


def joined(pieces: Sequence[list[FakePacket]]) -> list[FakePacket]:
    """The pieces end to end; as demuxers do, the last picture of one comes after the first sound of the next."""
    packets: list[FakePacket] = []
    for each in pieces:
        late = [packets.pop()] if packets and packets[-1].stream_index == PICTURES else []
        packets += [each[0], *late, *each[1:]]
    return packets


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1.2, 5.0)), min_size=1, max_size=4))
def test_pieces_go_on_where_the_one_before_ended(spans: list[tuple[float, float]]) -> None:
    pieces = [piece(number, *span) for number, span in enumerate(spans)]
    for before, after in pairwise(pieces):
        assume(seconds(after[0]) < seconds(before[-1]) - BACK_S - 0.1)
    given_packets = joined(pieces)
    out, times = placed(given_packets)
    for stream in (SOUND, PICTURES):
        names = [[p.name for p in packets if p.stream_index == stream] for packets in (out, given_packets)]
        assert names[0] == names[1], "all of them, in their order"
    raw = {(p.stream_index, p.name): seconds(p) for p in given_packets}
    ends_s = 0.0
    for number in range(len(pieces)):
        mine = [p for p in out if p.name[0] == number]
        shifts = [seconds(p) - raw[p.stream_index, p.name] for p in mine]
        assert max(shifts) - min(shifts) < 1e-9, "sound and pictures stay together"
        begins_s = min(seconds(p) for p in mine)
        assert begins_s == pytest.approx(ends_s if number else spans[0][0], abs=1e-4)
        ends_s = max(seconds(p) + float(p.duration * CLOCK) for p in mine)
    assert len(times.joins_at) == len(pieces) - 1


@settings(deadline=None)
@given(st.integers(0, 200), st.sampled_from([SOUND, PICTURES]), st.floats(-5e4, 5e4), st.integers(1, 5))
def test_damaged_times_move_nothing_else(first: int, stream: int, shift_s: float, num_damaged: int) -> None:
    assume(not -BACK_S <= shift_s <= AHEAD_S)
    packets = piece(0, 10.0, 8.0)
    of_stream = [packet for packet in packets if packet.stream_index == stream]
    damaged = of_stream[1:-num_damaged][first % 100 :][:num_damaged]
    before = [packet.pts for packet in packets]
    for packet in damaged:
        assert packet.pts is not None
        packet.pts += round(shift_s / CLOCK)
    out, times = placed(packets)
    assert times.joins_at == []
    whole = [p for p in out if all(p.name != d.name or p.stream_index != d.stream_index for d in damaged)]
    assert sorted(before) == sorted([p.pts for p in whole] + [p.pts - round(shift_s / CLOCK) for p in damaged])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.none() | st.floats(-10, 1e5) | st.floats(0, 6)),
        max_size=60,
    )
)
def test_whatever_the_times_every_packet_comes_out_once_and_in_order(drawn: list[tuple[int, float | None]]) -> None:
    packets = [
        FakePacket(stream, None if time is None else round(time / CLOCK), 3600, name=(number,))
        for number, (stream, time) in enumerate(drawn)
    ]
    out, _ = placed(packets)
    for stream in range(3):
        of_stream = [p.name for p in packets if p.stream_index == stream]
        assert [p.name for p in out if p.stream_index == stream] == of_stream


def test_gaps_stay_and_packets_without_a_time_pass() -> None:
    packets = [*piece(0, 0.0, 3.0), FakePacket(SOUND, None, 0), *piece(1, 60.0, 3.0), *piece(2, 63.5, 0.1)]
    out, times = placed(packets)
    assert out == packets
    assert times.joins_at == []


def test_a_return_that_ffmpeg_takes_for_a_clock_that_began_anew_is_a_return() -> None:
    out, times = placed(joined([piece(0, 1000.0, 3.0), piece(1, 1.4 + float(WRAP_S), 3.0), piece(2, 1000.0, 3.0)]))
    assert [float(time) for time in times.joins_at] == pytest.approx([1003.0, 1006.0], abs=0.1)
    assert max(seconds(packet) for packet in out) == pytest.approx(1009.0, abs=0.1)


def test_a_clock_that_begins_anew_in_a_long_recording_is_no_return() -> None:
    packets = piece(0, float(WRAP_S) - 2.0, 4.0)
    out, times = placed(packets)
    assert out == packets
    assert times.joins_at == []


def test_gaps_stay_in_times_since_1970() -> None:
    packets = [*piece(0, 1.7e9, 3.0), *piece(1, 1.7e9 + 60.0, 3.0)]
    out, times = placed(packets)
    assert out == packets
    assert times.joins_at == []


@pytest.mark.parametrize("stated_s", [None, 1.0])
def test_packets_are_not_held_for_ever(stated_s: float | None) -> None:
    times, num_out = JoinedTimes(), 0
    pts = None if stated_s is None else round(stated_s / CLOCK)
    stuck = [FakePacket(SOUND, pts, 0, name=(1, index)) for index in range(2 * MAX_HELD)]
    for packet in [*piece(0, 5.0, 2.0), *piece(1, 1.0, 0.1), *stuck]:
        num_out += len(list(times.place(cast(Any, packet))))
    assert num_out > MAX_HELD


@pytest.mark.parametrize("kinds", [(PICTURES,), (SOUND, PICTURES)])
def test_pictures_go_on_with_what_follows_a_join_in_whatever_order_they_are_decoded(kinds: tuple[int, ...]) -> None:
    """In Matroska FFmpeg makes up when pictures are decoded: after a join, when each is shown."""
    first, second = ([p for p in each if p.stream_index in kinds] for each in (piece(0, 0.0, 4.0), piece(1, 0.0, 4.0)))
    order = iter(np.arange(100).reshape(-1, 4)[:, [3, 1, 0, 2]].ravel())  # each four by one that is shown after them
    pictures = [packet for packet in second if packet.stream_index == PICTURES]
    second = [pictures[next(order)] if p.stream_index == PICTURES else p for p in second]
    out, times = placed(first + second)
    assert [float(time) for time in times.joins_at] == pytest.approx([4.0], abs=0.05)
    assert all(seconds(packet) > 3.95 for packet in out if packet.name[0] == 1)


def test_a_picture_shown_long_after_it_is_decoded_is_no_join() -> None:
    """In Matroska FFmpeg does not know when the first two are decoded."""
    order = [0, 8, *range(1, 8), *range(9, 20)]
    packets = [FakePacket(PICTURES, round(0.2 * i / CLOCK), round(0.2 / CLOCK), name=(0, i)) for i in order]
    packets[0].has_dts = packets[1].has_dts = False
    out, times = placed(packets)
    assert out == packets
    assert times.joins_at == []


def test_the_last_picture_of_a_piece_is_its_own_however_late_the_next_one_comes() -> None:
    sound, pictures = ([p for p in piece(0, 1.4, 4.0) if p.stream_index == kind] for kind in (SOUND, PICTURES))
    after = [p for p in piece(1, 1.4, 6.0) if p.stream_index == SOUND or seconds(p) >= 4.4]
    next_one = next(index for index, packet in enumerate(after) if packet.stream_index == PICTURES)
    given_packets = [*sorted([*sound, *pictures[:-1]], key=seconds), *after[:next_one], pictures[-1], *after[next_one:]]
    out, times = placed(given_packets)
    assert [float(time) for time in times.joins_at] == pytest.approx([5.4], abs=0.05)
    shown_s = [seconds(packet) for packet in out if packet.stream_index == PICTURES]
    assert shown_s[:100] == pytest.approx([1.4 + 0.04 * index for index in range(100)])
    assert shown_s[100] == pytest.approx(8.4, abs=0.05)


def test_what_follows_a_join_goes_on_behind_the_little_that_came_after_a_gap() -> None:
    sound = [*piece(0, 0.0, 3.0), *piece(1, 8.0, 0.6), *piece(2, 0.0, 3.0)]
    out, times = placed([packet for packet in sound if packet.stream_index == SOUND])
    assert [float(time) for time in times.joins_at] == pytest.approx([8.6], abs=0.05)
    assert (np.diff([seconds(packet) for packet in out]) >= 0).all()


def test_a_short_last_piece_is_not_lost() -> None:
    out, times = placed(joined([piece(0, 0.0, 3.0), piece(1, 0.0, 0.3)]))
    assert [float(time) for time in times.joins_at] == pytest.approx([3.0])
    assert max(seconds(packet) for packet in out) == pytest.approx(3.3, abs=0.05)


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_clips_that_were_joined_flash_and_click_together_to_the_end(tmp_path, suffix):
    path, twice = tmp_path / f"once{suffix}", tmp_path / f"twice{suffix}"
    write_clip(path, frame_times_s=even_times_s(25, 2.5), audio_s=2.5)
    twice.write_bytes(3 * path.read_bytes())
    with open_media(path) as media:
        once = align(media)
    with open_media(twice) as media:
        thrice = align(media)
    assert len(thrice.ticks) == pytest.approx(3 * len(once.ticks), abs=6)
    bright = [
        index for index, tick in enumerate(thrice.ticks) if tick.frame is not None and tick.frame.rgb.mean() > 120
    ]
    loud = np.flatnonzero(np.abs(thrice.samples) > 0.5 * np.abs(thrice.samples).max()) / 16_000
    for each in range(3):
        flash_s = np.mean([index for index in bright if each * 2.5 < index * TICK_S < (each + 1) * 2.5]) * TICK_S
        click_s = np.mean([time for time in loud if each * 2.5 < time < (each + 1) * 2.5])
        assert flash_s == pytest.approx(click_s, abs=TICK_S)
    (warning,) = media.warnings
    assert "as where files were joined" in warning
    assert media.damage == (), "nothing is lost"


def write_sound(path: Path, codec: str, duration_s: float) -> None:
    """Write silence of that length."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=48000, layout="mono")
        for index in range(round(duration_s * 50)):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 960), dtype=np.int16), "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, 960 * index, Fraction(1, 48000)
            container.mux(track.encode(sound))
        container.mux(track.encode())


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".ts"])
def test_sound_that_was_joined_is_heard_whole(tmp_path, suffix):
    once, path = tmp_path / f"once{suffix}", tmp_path / f"twice{suffix}"
    write_sound(once, {".flac": "flac", ".ogg": "flac", ".ts": "mp2"}[suffix], 2.0)
    path.write_bytes(2 * once.read_bytes())
    with open_media(path) as media:
        heard = align(media).heard
    assert heard.sum() * TICK_S == pytest.approx(4.0, abs=0.15)
    assert not media.damage, "nothing is lost"
    (warning,) = media.warnings
    assert "as where files were joined" in warning


def test_many_joins_are_counted_and_only_the_first_of_them_named(tmp_path):
    once, path = tmp_path / "once.ts", tmp_path / "often.ts"
    write_sound(once, "mp2", 1.5)
    path.write_bytes(8 * once.read_bytes())
    with open_media(path) as media:
        align(media)
    (warning,) = media.warnings
    assert re.search(r"after 1\.\d, \d\.\d, \d\.\d, \d\.\d, \d\.\d \(and 2 more\) s", warning)


def test_a_piece_in_the_middle_that_is_too_short_to_be_believed_is_told_of(tmp_path):
    for name, duration_s in (("long.ts", 2.0), ("short.ts", 0.4)):
        write_sound(tmp_path / name, "mp2", duration_s)
    long, short = ((tmp_path / name).read_bytes() for name in ("long.ts", "short.ts"))
    path = tmp_path / "joined.ts"
    path.write_bytes(long + short + long)
    with open_media(path) as media:
        heard = align(media).heard
    assert heard.sum() * TICK_S == pytest.approx(4.0, abs=0.15)
    assert "audio timestamps briefly run backwards" in " ".join(media.warnings)
