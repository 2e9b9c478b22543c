"""Law 5: a sense that is missing, lost, late or out of order is data: the stream goes on, and says what it lacked."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from stand_ins import Heard, LampFace, Packet, listen, packets_of, pictures, sound, time_s

from avsr.errors import InputError
from avsr.frontend import SenseTicks
from avsr.media import AudioPacket
from avsr.recognizer import Recognizer
from avsr.types import SAMPLE_RATE, TICK_S, Caption, Modality, VideoFrame

PATIENCE_S, CHUNK_S = 2.0, 0.32


def listen_to(engine: Recognizer, packets: list[Packet], modality: Modality = "av") -> Heard:
    """Caption ``packets`` with a face tracker that needs no face."""
    return listen(engine.stream(modality=modality, landmarker=LampFace()), packets)


def without(packets: list[Packet], kind: type[Packet], start_s: float = -np.inf, end_s: float = np.inf) -> list[Packet]:
    """Leave one sense out between two times."""
    return [p for p in packets if not (isinstance(p, kind) and start_s <= time_s(p) < end_s)]


def within(captions: list[Caption], start_s: float, end_s: float) -> list[Caption]:
    """Return the captions that begin and end between two times, and say something."""
    return [c for c in captions if c.words and c.start_s >= start_s and c.end_s <= end_s]


@pytest.mark.parametrize(
    ("missing", "modality", "audio_weight", "face_visible"),
    [(VideoFrame, "audio", 1.0, 0.0), (AudioPacket, "video", 0.0, 1.0)],
)
def test_a_sense_that_never_comes_is_the_same_as_one_left_out(
    engine: Recognizer,
    clip: list[Packet],
    missing: type[Packet],
    modality: Modality,
    audio_weight: float,
    face_visible: float,
) -> None:
    heard = listen_to(engine, without(clip, missing))
    assert heard.finals == listen_to(engine, clip, modality).finals
    assert heard.num_words >= 4
    assert all(final.audio_weight == pytest.approx(audio_weight, abs=1e-6) for final in heard.finals)
    assert all(final.face_visible == face_visible for final in heard.finals)


@pytest.mark.parametrize("lost", [VideoFrame, AudioPacket], ids=["camera", "microphone"])
def test_a_sense_is_lost_and_comes_back(engine: Recognizer, lost: type[Packet]) -> None:
    packets = without(packets_of(sound(12.0), pictures(12.0)), lost, 4.0, 8.0)
    stream, heard, positions = engine.stream(landmarker=LampFace()), Heard(), []
    for packet in packets:
        stream.accept(packet)
        heard.read(stream)
        positions.append((time_s(packet), stream.duration_s))
    stream.finish()
    heard.read(stream)
    assert stream.duration_s == pytest.approx(12.0)
    assert all(now_s - position_s <= PATIENCE_S + CHUNK_S + 0.1 for now_s, position_s in positions)
    shares = [
        [c.face_visible if lost is VideoFrame else c.audio_weight > 0.2 for c in within(heard.finals, start_s, end_s)]
        for start_s, end_s in ((0.0, 4.0), (4.4, 8.0), (8.0, 12.0))
    ]
    assert all(shares)  # captions went on all the time
    assert np.mean(shares[0]) > 0.9
    assert np.mean(shares[1]) == 0.0
    assert np.mean(shares[2]) > 0.9


def test_both_senses_stop_and_come_back_much_later(engine: Recognizer, clip: list[Packet]) -> None:
    gap_s = 40.0
    later = [
        replace(p, pts_us=p.pts_us + round((3 + gap_s) * 1e6))
        if isinstance(p, VideoFrame)
        else replace(p, t_s=time_s(p) + 3 + gap_s)
        for p in clip
    ]
    heard = listen_to(engine, [*clip, *later])
    assert within(heard.finals, 0.0, 3.2)
    assert len(within(heard.finals, 3 + gap_s, 6 + gap_s)) >= 2
    assert heard.finals[-1].end_s <= 6 + gap_s


def test_after_hours_of_nothing_it_begins_afresh(engine: Recognizer, clip: list[Packet]) -> None:
    start_s = 7200.0
    heard_now = [packet for packet in clip if isinstance(packet, AudioPacket)]
    heard_later = [replace(packet, t_s=time_s(packet) + start_s) for packet in heard_now]
    first = listen_to(engine, heard_now)
    both = listen_to(engine, [*heard_now, *heard_later])
    assert len(first.finals) >= 2
    again = [caption for caption in both.finals if caption.start_s >= start_s]
    assert [caption.text for caption in again] == [caption.text for caption in first.finals]
    assert again[0].start_s == pytest.approx(first.finals[0].start_s + start_s)
    assert [caption.segment for caption in both.finals] == list(range(len(both.finals)))


def test_any_gap_is_passed_over_at_once(engine: Recognizer) -> None:
    """Half a century, as when times count from 1970: stepping over it would take years."""
    start_s = 1.7e9
    heard = Heard()
    with engine.stream(landmarker=LampFace()) as stream:
        stream.accept_audio(sound(4.0), SAMPLE_RATE, t=start_s)
        for frame in pictures(4.0):
            stream.accept_video(frame.rgb, t=start_s + frame.pts_us / 1e6)
        stream.finish()
        heard.read(stream)
    assert stream.duration_s == pytest.approx(start_s + 4.0)
    spoken = within(heard.finals, start_s, start_s + 4.0)
    assert spoken
    assert any(caption.face_visible > 0.5 for caption in spoken)


def test_a_reused_camera_buffer_never_changes_what_was_pushed(engine: Recognizer, clip: list[Packet]) -> None:
    buffer = np.zeros_like(next(p.rgb for p in clip if isinstance(p, VideoFrame)))
    heard = []
    for is_reused in (False, True):
        with engine.stream(modality="video", landmarker=LampFace()) as stream:
            for packet in clip:
                if isinstance(packet, VideoFrame):
                    np.copyto(buffer, packet.rgb)
                    stream.accept_video(buffer if is_reused else packet.rgb, t=packet.pts_us / 1e6)
            stream.finish()
            heard.append([caption.text for caption in stream.captions() if caption.is_final])
    assert heard[0] == heard[1] != []


def test_what_was_never_there_is_said(engine: Recognizer, clip: list[Packet]) -> None:
    faceless = [replace(p, rgb=np.zeros_like(p.rgb)) if isinstance(p, VideoFrame) else p for p in clip]
    for packets, lack in (
        (clip, ()),
        (without(clip, VideoFrame), ("there was no video",)),
        (faceless, ("no face was seen",)),
        (without(clip, AudioPacket), ("no sound was heard",)),
    ):
        with engine.stream(landmarker=LampFace()) as stream:
            for packet in packets:
                stream.accept(packet)
            stream.finish()
            assert stream.notes() == lack


def test_a_covered_lens_is_no_face(engine: Recognizer, clip: list[Packet]) -> None:
    dark = [replace(p, rgb=np.zeros_like(p.rgb)) if isinstance(p, VideoFrame) else p for p in clip]
    heard = listen_to(engine, dark)
    assert heard.finals == listen_to(engine, without(clip, VideoFrame)).finals


def test_what_lies_before_the_start_is_passed_over(engine: Recognizer, clip: list[Packet], expected: Heard) -> None:
    early: list[Packet] = [AudioPacket(sound(1.0, seed=9), SAMPLE_RATE, -1.0)]
    early += [replace(f, pts_us=f.pts_us - 1_000_000) for f in pictures(1.0, seed=9)]
    assert listen_to(engine, [*early, *clip]).captions == expected.captions


def test_what_comes_twice_or_out_of_order_is_passed_over(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    stammer = [again for i, packet in enumerate(clip) for again in (packet, *clip[max(0, i - 6) : i : 5])]
    assert listen_to(engine, stammer).finals == expected.finals


def test_what_comes_after_the_patience_is_passed_over(engine: Recognizer) -> None:
    samples, frames = sound(8.0), pictures(8.0)
    on_time = [frame for frame in frames if frame.pts_us >= 5_000_000]
    sounds = packets_of(samples, [])
    late: list[Packet] = [*sounds[:125], *frames[:50], *packets_of(samples, on_time)[125:]]
    assert listen_to(engine, late).finals == listen_to(engine, packets_of(samples, on_time)).finals


def test_a_sense_that_is_passed_over_is_not_waited_for(engine: Recognizer, clip: list[Packet]) -> None:
    sounds, heard = without(clip, VideoFrame), Heard()
    with engine.stream(landmarker=LampFace()) as stream:
        for packet in sounds:
            stream.accept(packet)
            stream.pass_over("video", time_s(packet) + TICK_S)
            heard.read(stream)
            assert time_s(packet) + TICK_S - stream.duration_s < CHUNK_S + 1e-6
        stream.finish()
        heard.read(stream)
    assert heard.finals == listen_to(engine, sounds, "audio").finals
    with pytest.raises(InputError, match="finished"):
        stream.pass_over("audio", 1.0)


@pytest.mark.parametrize("num_ticks", [1, 8, 25, 50, 75, 249])
def test_a_sense_is_passed_over_up_to_the_very_tick(engine: Recognizer, num_ticks: int) -> None:
    with engine.stream(landmarker=LampFace()) as stream:
        stream.pass_over("video", num_ticks * TICK_S)
        assert stream.state.front.video.next_tick == num_ticks


def test_senses_without_times_go_on_where_they_were_given_up(engine: Recognizer) -> None:
    samples, frames = sound(10.0), [frame.rgb for frame in pictures(10.0)]
    for pausing in ("audio", "video"):
        seen: list[SenseTicks] = []
        with engine.stream(landmarker=LampFace()) as stream:
            stream.on_ticks = seen.append
            for tick, rgb in enumerate(frames):
                is_pause = 50 <= tick < 150
                if not (is_pause and pausing == "audio"):
                    stream.accept_audio(samples[tick * 640 : tick * 640 + 640], SAMPLE_RATE)
                if not (is_pause and pausing == "video"):
                    stream.accept_video(rgb)
            stream.finish()
        present = np.concatenate([ticks.heard if pausing == "audio" else ticks.visible for ticks in seen])
        given_up_at = 150 - round(PATIENCE_S / TICK_S)
        assert present[:50].all()
        assert not present[60:given_up_at].any()
        assert present[given_up_at + 10 : given_up_at + 90].all()


def test_nothing_at_all_is_an_empty_transcript(engine: Recognizer) -> None:
    assert listen_to(engine, []).captions == []


def test_a_packet_that_cannot_be_used_leaves_the_stream_as_it_was(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    stream, heard = engine.stream(landmarker=LampFace()), Heard()
    for packet in clip:
        with pytest.raises(InputError):
            stream.accept_audio(np.zeros(10, np.float32), 0)
        with pytest.raises(InputError):
            stream.accept_audio(np.zeros(10, np.float32), SAMPLE_RATE, float("nan"))
        with pytest.raises(InputError):
            stream.accept_video(np.zeros((4, 4), np.uint8))
        with pytest.raises(InputError):
            stream.accept_video(np.zeros((4, 4, 3), np.uint8), 1e300)
        with pytest.raises(InputError):
            stream.pass_over("video", float("inf"))
        stream.accept(packet)
        heard.read(stream)
    stream.finish()
    heard.read(stream)
    assert heard.captions == expected.captions
    with pytest.raises(InputError, match="finished"):
        stream.accept(clip[0])


def test_a_stream_whose_network_fails_is_over(
    engine: Recognizer, clip: list[Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still pushed would wait for ever behind the chunk that failed."""
    stream = engine.stream(landmarker=LampFace())
    monkeypatch.setattr(stream, "_caption", Mock(side_effect=RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        for packet in clip:
            stream.accept(packet)
    with pytest.raises(InputError, match="finished"):
        stream.accept(clip[0])
