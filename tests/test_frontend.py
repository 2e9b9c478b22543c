"""The front end: both senses on one clock, each waiting for the other, but not for ever."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import LampFace, Packet, packets_of, pictures, sound

from avsr.errors import InputError
from avsr.frontend import MUTED_TICKS, FrontEnd, FrontEndState, SenseTicks
from avsr.lips import Face, LipTracker
from avsr.lips.tracker import HOLD_TICKS
from avsr.media import AudioPacket
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, ByteArray, Modality, Sense, VideoFrame

SAMPLES, FRAMES = sound(2.0), pictures(2.0)
PATIENCE_S = 1.0
PATIENCE_TICKS = round(PATIENCE_S / TICK_S)

times_s = st.floats(-0.5, 4.0)
sounds = st.builds(
    lambda length, t_s, rate: AudioPacket(SAMPLES[:length], rate, t_s),
    st.integers(0, 9_000),
    st.none() | times_s,
    st.sampled_from([SAMPLE_RATE, 8_000, 44_100]),
)
frames = st.builds(lambda index, t_s: VideoFrame(FRAMES[index].rgb, round(t_s * 1e6)), st.integers(0, 49), times_s)


def front_end(modality: Modality = "av") -> FrontEnd:
    return FrontEnd(modality, None if modality == "audio" else LipTracker(LampFace()), PATIENCE_S)


def drain(front: FrontEnd, num_ticks: int, state: FrontEndState) -> tuple[list[SenseTicks], FrontEndState]:
    pieces = []
    while True:
        piece, state = front.take(num_ticks, state)
        if piece is None:
            return pieces, state
        pieces.append(piece)


def run(front: FrontEnd, packets: list[Packet], num_ticks: int = 8) -> list[SenseTicks]:
    state, pieces = front.init_state(), []
    for packet in packets:
        state = front.accept(packet, state)
        more, state = drain(front, num_ticks, state)
        pieces += more
    more, state = drain(front, num_ticks, front.end(state))
    assert front.take(num_ticks, state) == (None, state)
    return pieces + more


def whole(pieces: list[SenseTicks]) -> tuple[bytes, bytes, bytes, list[tuple[int, bool]]]:
    """Everything in the pieces, comparable."""
    return (
        b"".join(piece.samples.tobytes() for piece in pieces),
        b"".join(piece.heard.tobytes() for piece in pieces),
        b"".join(lip.gray.tobytes() for piece in pieces for lip in piece.lips),
        [(lip.tick, lip.visible) for piece in pieces for lip in piece.lips],
    )


def test_a_muted_microphone_counts_as_absent_and_comes_back() -> None:
    front = FrontEnd("audio", tracker=None)
    muted = np.zeros(3 * SAMPLE_RATE, np.float32)
    state = front.init_state()
    voice = np.random.default_rng(0).normal(scale=0.1, size=SAMPLE_RATE).astype(np.float32)
    for samples in (voice, muted, voice):
        state = front.accept(AudioPacket(samples, SAMPLE_RATE), state)
    ticks, _ = front.take(125, front.end(state))
    assert ticks is not None
    assert ticks.heard[: 25 + MUTED_TICKS - 1].all()
    assert not ticks.heard[25 + MUTED_TICKS : 99].any()
    assert ticks.heard[101:].all()


def test_absence_that_is_skipped_ends_a_mute_as_absence_that_is_taken_does() -> None:
    """Else it would depend on the packets at which tick a hum too low to be heard wakes the network."""
    front, hum = FrontEnd("audio", tracker=None), np.full(SAMPLE_RATE, 1e-6, np.float32)
    state = front.accept(AudioPacket(hum, SAMPLE_RATE, 0.0), front.init_state())
    state = front.accept(AudioPacket(hum, SAMPLE_RATE, 5.0), state)
    _, muted = front.take(25, state)
    assert muted.muted_ticks == MUTED_TICKS
    (taken, _), (skipped, _) = front.take(101, muted), front.take(1, front.skip_absence(25, muted))
    assert taken is not None and skipped is not None
    assert (skipped.start_tick, skipped.heard[0]) == (125, taken.heard[100])


class CountingFace(LampFace):
    """Counts the pictures that are looked at."""

    num_pictures = 0

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Find the lamp."""
        self.num_pictures += 1
        return super().__call__(rgb)


@pytest.mark.parametrize("is_lit", [True, False])
@pytest.mark.parametrize("num_waiting", [1, 5, 12])
def test_a_picture_is_looked_at_once_however_many_wait_when_the_network_wakes(num_waiting: int, is_lit: bool) -> None:
    face = CountingFace()
    front = FrontEnd("av", LipTracker(face), PATIENCE_S)
    frames = [
        VideoFrame(frame.rgb if is_lit else np.zeros_like(frame.rgb), frame.pts_us + 100_000_000)
        for frame in pictures(3.0, 10.0)
    ]
    state = front.init_state()
    for index, frame in enumerate(frames):
        state = front.accept(frame, state)
        if index >= num_waiting:
            samples = SAMPLES[:1600]
            late = AudioPacket(samples, SAMPLE_RATE, 100.0 + (index - num_waiting) * 0.1)
            state = front.accept(late, state)
        _, state = drain(front, 1, front.skip_absence(8, state))
    _, state = drain(front, 1, front.end(state))
    assert face.num_pictures == len(frames)


@settings(deadline=None, max_examples=40)
@given(st.lists(sounds | frames, max_size=12), st.integers(1, 16), st.sampled_from(["av", "audio", "video"]))
def test_ticks_are_consecutive_and_whole_whatever_arrives(
    packets: list[Packet], num_ticks: int, modality: Modality
) -> None:
    pieces = run(front_end(modality), packets, num_ticks)
    tick = 0
    for piece in pieces:
        assert piece.start_tick == tick
        assert len(piece.samples) == TICK_SAMPLES * piece.num_ticks
        assert [lip.tick for lip in piece.lips] == list(range(tick, tick + piece.num_ticks))
        tick += piece.num_ticks
    assert all(piece.num_ticks == num_ticks for piece in pieces[:-1])


@settings(deadline=None, max_examples=40)
@given(st.lists(sounds | frames, max_size=12), st.integers(1, 16))
def test_nobody_is_waited_for_longer_than_the_patience(packets: list[Packet], num_ticks: int) -> None:
    front = front_end()
    state = front.init_state()
    for packet in packets:
        _, state = drain(front, num_ticks, front.accept(packet, state))
        ends = state.sound_end, state.pictures_end
        assert max(ends) - state.next_tick < PATIENCE_TICKS + num_ticks
        assert min(ends) - state.next_tick < num_ticks


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_cuts_and_lags_within_the_patience_never_change_the_ticks(data: st.DataObject) -> None:
    longest_s, rate_hz = 0.3, data.draw(st.sampled_from(RATES_HZ))
    cuts = sorted({0, len(SAMPLES), *data.draw(st.lists(st.integers(0, len(SAMPLES)), max_size=12))})
    cuts = sorted({*cuts, *range(0, len(SAMPLES), round(longest_s * SAMPLE_RATE))})
    delay_s = data.draw(st.floats(longest_s + 0.1 - PATIENCE_S, PATIENCE_S - 0.3))
    arrivals: list[tuple[float, Packet]] = [(frame.pts_us / 1e6 + delay_s, frame) for frame in pictures(2.0, rate_hz)]
    for start, end in pairwise(cuts):
        t_s = data.draw(st.sampled_from([None, start / SAMPLE_RATE])) if start else 0.0
        arrivals.append((end / SAMPLE_RATE, AudioPacket(SAMPLES[start:end], SAMPLE_RATE, t_s)))
    packets = [packet for _, packet in sorted(arrivals, key=lambda arrival: arrival[0])]
    pieces = run(front_end(), packets, data.draw(st.integers(1, 16)))
    assert whole(pieces) == EXPECTED[rate_hz]


RATES_HZ = (10.0, 25.0, 30.0)
EXPECTED = {rate_hz: whole(run(front_end(), packets_of(SAMPLES, pictures(2.0, rate_hz)))) for rate_hz in RATES_HZ}


def test_in_good_order_nothing_is_lost() -> None:
    samples, heard, _, seen = EXPECTED[25.0]
    assert samples == SAMPLES.tobytes()
    assert heard == np.ones(50, np.bool_).tobytes()
    assert seen == [(tick, True) for tick in range(50)]


def test_a_sense_that_is_too_late_is_left_out_until_it_has_caught_up() -> None:
    sounds = [AudioPacket(SAMPLES[i * 640 : (i + 1) * 640], SAMPLE_RATE, i * TICK_S) for i in range(50)]
    # The camera begins to deliver, from its first picture on, when 1.6 s have been heard: 0.6 s too late.
    pieces = run(front_end(), [*sounds[:40], *FRAMES, *sounds[40:]], num_ticks=1)
    visible = np.concatenate([piece.visible for piece in pieces])
    assert visible.tolist() == [False] * (40 - PATIENCE_TICKS) + [True] * (50 - 40 + PATIENCE_TICKS)
    assert all(piece.heard.all() for piece in pieces)


def test_without_the_other_sense_a_modality_never_waits() -> None:
    audio, video = front_end("audio"), front_end("video")
    state = audio.accept(AudioPacket(SAMPLES[: 8 * 640], SAMPLE_RATE, 0.0), audio.init_state())
    [piece], _ = drain(audio, 8, state)
    assert piece.heard.all()
    assert not piece.visible.any()
    state = video.init_state()
    for frame in FRAMES[:8]:
        state = video.accept(frame, state)
    [piece], _ = drain(video, 8, state)
    assert piece.visible.all()
    assert not piece.heard.any()


@pytest.mark.parametrize(("modality", "left_out"), [("audio", FRAMES[0]), ("video", AudioPacket(SAMPLES, SAMPLE_RATE))])
def test_what_the_modality_leaves_out_is_passed_over(modality: Modality, left_out: Packet) -> None:
    front = front_end(modality)
    state = front.init_state()
    assert front.accept(left_out, state) is state
    sense: Sense = "video" if modality == "audio" else "audio"
    assert front.pass_over(sense, 9, state) is state


def test_nothing_gives_no_ticks() -> None:
    assert run(front_end(), []) == []


def test_the_end_gives_a_shorter_last_piece_and_the_longer_sense_decides() -> None:
    pieces = run(front_end(), [AudioPacket(SAMPLES[: 20 * 640 + 5], SAMPLE_RATE, 0.0), *FRAMES[:10]])
    assert [piece.num_ticks for piece in pieces] == [8, 8, 5]
    assert np.concatenate([piece.visible for piece in pieces]).nonzero()[0].tolist() == list(range(10 + HOLD_TICKS))


def test_no_stage_changes_the_state_it_is_given() -> None:
    front = front_end()
    state = front.init_state()
    for packet in (AudioPacket(SAMPLES, SAMPLE_RATE, 0.0), *FRAMES[:20]):
        state = front.accept(packet, state)
    before = pickle.dumps(state)
    first, _ = front.take(8, state)
    second, _ = front.take(8, state)
    front.end(front.accept(FRAMES[20], state))
    assert first is not None
    assert second is not None
    assert whole([first]) == whole([second])
    assert pickle.dumps(state) == before


def test_a_packet_that_cannot_be_used_is_an_input_error() -> None:
    front = front_end()
    with pytest.raises(InputError):
        front.accept(AudioPacket(np.zeros((2, 2, 2), np.float32), SAMPLE_RATE), front.init_state())


def test_loudness_is_known_where_something_is_heard() -> None:
    samples = np.concatenate([np.full(640, 0.1, np.float32), np.zeros(640, np.float32)])
    ticks = SenseTicks(0, samples, np.array([True, False]), ())
    assert ticks.loudness_db(0) == pytest.approx(-20.0, abs=0.01)
    assert ticks.loudness_db(1) is None
