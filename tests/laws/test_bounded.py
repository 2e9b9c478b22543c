"""Laws 4 and 6: nothing grows with the length of a stream, and every queue has a limit."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import pytest
from stand_ins import Heard, LampFace, Packet, pictures, sound, time_s

from avsr.frontend import FrontEnd, FrontEndState
from avsr.lips import LipTracker
from avsr.media import AudioPacket
from avsr.recognizer import Recognizer
from avsr.types import SAMPLE_RATE, TICK_S, VideoFrame

PATIENCE_S, CHUNK_TICKS = 1.0, 8


def front_end() -> FrontEnd:
    """Return a front end for both senses."""
    return FrontEnd("av", LipTracker(LampFace()), PATIENCE_S)


def feed(front: FrontEnd, packet: Packet, state: FrontEndState) -> FrontEndState:
    """Push a packet and take what is ready."""
    state = front.accept(packet, state)
    while True:
        ticks, state = front.take(CHUNK_TICKS, state)
        if ticks is None:
            return state


def test_the_state_never_grows(engine: Recognizer, clip: list[Packet]) -> None:
    stream, sizes = engine.stream(landmarker=LampFace()), []
    turn_s = 10 * CHUNK_TICKS * TICK_S  # whole chunks, so that each turn ends at the same place of one
    for turn in range(4):
        for packet in clip:
            moved_s = time_s(packet) + turn_s * turn
            if isinstance(packet, VideoFrame):
                stream.accept_video(packet.rgb, moved_s)
            else:
                stream.accept_audio(packet.samples, SAMPLE_RATE, moved_s)
        sizes.append(len(pickle.dumps(stream.state)))
        list(stream.captions())
    assert max(sizes[2:]) <= 1.01 * sizes[1]


def test_sound_without_pictures_queues_no_longer_than_the_patience() -> None:
    front = front_end()
    state = front.init_state()
    for start, packet in enumerate(islice(cycle([sound(0.5)]), 60)):
        state = feed(front, AudioPacket(packet, SAMPLE_RATE, start * 0.5), state)
        assert (state.sound_end - state.next_tick) * TICK_S <= PATIENCE_S + CHUNK_TICKS * TICK_S
    assert state.next_tick * TICK_S >= 30 - PATIENCE_S - CHUNK_TICKS * TICK_S
    assert len(state.sound) <= (PATIENCE_S + CHUNK_TICKS * TICK_S) / 0.5 + 1


def test_a_large_picture_waits_as_a_small_one(engine: Recognizer) -> None:
    with engine.stream(landmarker=LampFace()) as stream:
        stream.accept_video(np.zeros((2160, 3840, 3), np.uint8)[:, ::-1])
        waiting = stream.state.front.video.latest
    assert waiting is not None and waiting.rgb.shape == (720, 1280, 3)


@pytest.mark.parametrize("rate_hz", [10.0, 25.0, 240.0])
def test_pictures_without_sound_queue_no_longer_than_the_patience(rate_hz: float) -> None:
    front = front_end()
    state = front.init_state()
    [rgb] = {id(frame.rgb): frame.rgb for frame in pictures(0.04)}.values()
    for index in range(round(20 * rate_hz)):
        state = feed(front, VideoFrame(rgb, round(index * 1e6 / rate_hz)), state)
        assert (state.pictures_end - state.next_tick) * TICK_S <= PATIENCE_S + CHUNK_TICKS * TICK_S
        assert len(state.pictures) <= (PATIENCE_S / TICK_S) + CHUNK_TICKS
    assert state.next_tick * TICK_S >= 20 - PATIENCE_S - CHUNK_TICKS * TICK_S - 0.2


def test_specks_of_sound_do_not_pile_up() -> None:
    front = front_end()
    state = front.init_state()
    for value in sound(0.5):
        state = feed(front, AudioPacket(value.reshape(1), SAMPLE_RATE), state)
    assert len(state.sound) <= 0.5 / TICK_S
    assert len(pickle.dumps(state)) < 100_000


def test_a_gap_of_hours_takes_no_memory() -> None:
    front = front_end()
    state = feed(front, AudioPacket(sound(1.0), SAMPLE_RATE, 0.0), front.init_state())
    state = front.accept(AudioPacket(sound(1.0), SAMPLE_RATE, 7200.0), state)
    state = front.accept(replace(pictures(0.04)[0], pts_us=7_201_000_000), state)
    for _ in range(100):
        ticks, state = front.take(CHUNK_TICKS, state)
        assert ticks is not None
        assert ticks.num_ticks == CHUNK_TICKS
        assert len(pickle.dumps(state)) < 500_000


def test_unread_partials_are_dropped_and_finals_kept(engine: Recognizer, clip: list[Packet], expected: Heard) -> None:
    stream = engine.stream(landmarker=LampFace())
    for packet in clip[:110]:
        stream.accept(packet)
    unread = Heard()
    unread.read(stream)
    assert len(unread.finals) >= 1
    assert len(unread.captions) <= len(unread.finals) + 1
    assert all(caption.is_final for caption in unread.captions[:-1])
    for packet in clip[110:]:
        stream.accept(packet)
    stream.finish()
    unread.read(stream)
    assert unread.finals == expected.finals


def test_a_finished_stream_closes_its_face_tracker(engine: Recognizer, clip: list[Packet]) -> None:
    finished, left = LampFace(), LampFace()
    engine.stream(landmarker=finished).finish()
    with pytest.raises(RuntimeError, match="unplugged"), engine.stream(landmarker=left) as stream:
        stream.accept(clip[0])
        raise RuntimeError("unplugged")
    assert finished.is_closed
    assert left.is_closed
