"""The live loop, with devices and a clock that are played."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from room import START_S, Room, captures, captures_of
from stand_ins import LampFace, listen, packets_of, pictures, sound, without_latency
from talking import talk

from avsr.lips import Face
from avsr.live.events import Notice, Status
from avsr.live.recorder import Recorder
from avsr.media.capture import Picture, Sound
from avsr.recognizer import Recognizer
from avsr.types import ByteArray, Caption

CHUNK_S = 0.32
BOTH = ("microphone", "camera")


def statuses(room: Room) -> list[tuple[str, str]]:
    return [(event.device, event.state) for event in room.events if isinstance(event, Status)]


def test_live_captions_are_those_of_the_file(engine: Recognizer) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    room.deliver(captures(5.0))
    expected = listen(engine.stream(landmarker=LampFace()), packets_of(sound(5.0), pictures(5.0)))
    assert room.finals() == expected.finals
    assert expected.num_words >= 4
    assert room.live.figures.num_chunks >= 15
    assert all(-1 < late_ms < 1000 * CHUNK_S for late_ms in room.live.figures.partial_ms)


def test_the_work_on_a_chunk_counts_the_lips_that_were_looked_for_while_it_filled(
    engine: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s, look = [0.0], LampFace.__call__

    def look_for_10_ms(face: LampFace, rgb: ByteArray) -> list[Face]:
        clock_s[0] += 0.010
        return look(face, rgb)

    monkeypatch.setattr(LampFace, "__call__", look_for_10_ms)
    monkeypatch.setattr("avsr.live.captioner.time.perf_counter", lambda: clock_s[0])
    room = Room(engine)
    room.plug(*BOTH)
    room.deliver(captures(5.0))
    work_ms = room.live.figures.chunk_ms
    assert len(work_ms) >= 14
    assert np.median(work_ms) == pytest.approx(80.0)
    assert 0 <= 1000 * clock_s[0] - sum(work_ms) < 80.0 + 1e-6  # what is missing belongs to the chunk that is filling
    assert np.median(room.live.figures.step_ms) <= 20.0  # the last pictures of a chunk, no more, have to be waited for


@pytest.mark.parametrize("rate_hz", [10.0, 29.97, 60.0])
def test_pictures_may_come_at_any_rate(engine: Recognizer, rate_hz: float) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    room.deliver(captures(3.0, rate_hz=rate_hz))
    assert room.stream.duration_s > 2.2
    assert all(final.face_visible > 0.9 for final in room.finals() if final.words)


@pytest.mark.parametrize(("rate_hz", "is_told"), [(8.0, True), (11.0, True), (13.0, False), (30.0, False)])
def test_a_camera_of_few_pictures_is_told_of_once(engine: Recognizer, rate_hz: float, is_told: bool) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    room.deliver(captures(17.0, rate_hz=rate_hz))
    notices = [event for event in room.events if isinstance(event, Notice)]
    assert len(notices) == is_told
    if is_told:
        assert notices[0].message.startswith(f"the camera delivers only {round(rate_hz)} frames per second")
        assert 5.0 <= notices[0].at_s < 6.5


def test_pictures_that_this_machine_lost_or_a_camera_that_was_away_is_no_slow_camera(engine: Recognizer) -> None:
    slow, away = Room(engine), Room(engine)
    for room in (slow, away):
        room.plug(*BOTH)
    slow.live.note_overflow(40, 0.0)
    slow.deliver(captures(7.0, rate_hz=8.0))
    away.deliver(item for item in captures(14.0) if isinstance(item, Sound) or (item.host_s - START_S) % 4 < 1.5)
    assert not [event for room in (slow, away) for event in room.events if isinstance(event, Notice)]


@pytest.mark.parametrize(("lost", "kind"), [("camera", Picture), ("microphone", Sound)])
def test_a_lost_device_is_told_and_the_other_goes_on_within_a_chunk(engine: Recognizer, lost: str, kind: type) -> None:
    room, played = Room(engine), captures(9.0)
    room.plug(*BOTH)
    room.deliver(item for item in played if item.host_s < START_S + 3)
    room.unplug(lost)  # type: ignore[arg-type]
    for item in played:
        if START_S + 3 <= item.host_s < START_S + 6 and not isinstance(item, kind):
            room.deliver([item])
            assert room.now_s - START_S - room.stream.duration_s < CHUNK_S + 0.1
    room.plug(lost)  # type: ignore[arg-type]
    room.deliver(item for item in played if item.host_s >= START_S + 6)
    back = [event for event in room.events if isinstance(event, Status) and event.device == lost]
    assert [event.state for event in back][-2:] == ["lost", "live"]
    assert back[-1].at_s < 7.0
    finals = room.finals()
    shares = [f.face_visible if lost == "camera" else f.audio_weight for f in finals if f.start_s > 3.3 and f.end_s < 6]
    assert shares
    assert max(shares) == 0.0
    assert any(f.face_visible > 0.5 and f.audio_weight > 0.05 for f in finals if f.start_s > 6.2)


def test_a_camera_that_freezes_is_not_waited_for(engine: Recognizer) -> None:
    room, played = Room(engine), captures(6.0)
    room.plug(*BOTH)
    room.deliver(item for item in played if isinstance(item, Sound) or item.host_s < START_S + 2)
    assert room.now_s - START_S - room.stream.duration_s < CHUNK_S + 0.1
    assert ("camera", "lost") in statuses(room)


def test_a_device_that_never_comes_is_not_waited_for(engine: Recognizer) -> None:
    room = Room(engine)
    room.plug("microphone")
    room.unplug("camera")
    room.deliver(item for item in captures(4.0) if isinstance(item, Sound))
    assert room.now_s - START_S - room.stream.duration_s < CHUNK_S + 0.1
    alone = Room(engine, ("microphone",))
    alone.plug("microphone")
    alone.deliver(item for item in captures(4.0) if isinstance(item, Sound))
    assert [final.text for final in room.finals()] == [final.text for final in alone.finals()] != []


def test_a_covered_lens_and_a_muted_microphone_are_told(engine: Recognizer) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    for item in captures(4.0):
        is_late = item.host_s >= START_S + 2
        if isinstance(item, Picture):
            room.deliver([Picture(np.zeros_like(item.rgb) if is_late else item.rgb, item.host_s)])
        else:
            samples = np.zeros_like(item.samples) if is_late else item.samples
            room.deliver([Sound(samples, item.sample_rate, item.device_s, item.host_s)])
    assert statuses(room)[-2:] in (
        [("microphone", "muted"), ("camera", "covered")],
        [("camera", "covered"), ("microphone", "muted")],
    )


def test_a_slow_machine_drops_pictures_first_and_counts_them(engine: Recognizer) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    played = captures(6.0)
    room.deliver((item for item in played if item.host_s < START_S + 3), late_s=0.0)
    assert room.live.figures.dropped_pictures == 0
    room.deliver((item for item in played if item.host_s >= START_S + 3), late_s=2.5)
    assert room.live.figures.dropped_pictures >= 70
    assert room.stream.state.front.audio.dropped_samples == 0
    assert room.stream.state.heard_ticks * 0.04 > 5.5
    room.live.note_overflow(3, 1.5)
    room.events += room.live.take(None)
    assert any(isinstance(event, Notice) and "too slow" in event.message for event in room.events)


def test_lost_sound_is_told_at_once_and_then_once_a_second_at_most(engine: Recognizer) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    told = []
    for quarter in range(20):
        room.live.note_overflow(0, 0.125 * min(quarter, 10))  # half of all sound, for 2.5 s
        told += [(quarter, event.message) for event in room.live.take(None) if isinstance(event, Notice)]
        room.now_s += 0.25
    assert [quarter for quarter, _ in told] == [1, 5, 9, 13]
    assert "0.1 s of audio lost so far" in told[0][1]
    assert "1.2 s of audio lost so far" in told[-1][1]
    assert room.live.figures.dropped_sound_s == 1.25


def test_lost_pictures_and_bursts_do_no_harm(engine: Recognizer) -> None:
    rng, room = np.random.default_rng(3), Room(engine)
    room.plug(*BOTH)
    kept = [item for item in captures(4.0) if isinstance(item, Sound) or rng.random() > 0.2]
    for first in range(0, len(kept), 30):  # everything of 0.4 s at once
        burst = kept[first : first + 30]
        room.now_s = burst[-1].host_s + 0.05
        for item in burst:
            room.events += room.live.take(item)
    assert sum(len(final.words) for final in room.finals()) >= 3
    assert room.stream.state.visible_ticks > 80


def test_a_set_offset_moves_the_pictures(engine: Recognizer) -> None:
    late = Room(engine, offset_ms=200.0)
    late.plug(*BOTH)
    late.deliver(Picture(item.rgb, item.host_s + 0.2) if isinstance(item, Picture) else item for item in captures(4.0))
    right = Room(engine)
    right.plug(*BOTH)
    right.deliver(captures(4.0))
    assert late.finals() == right.finals() != []


def test_an_offset_is_measured_told_and_corrected(engine: Recognizer) -> None:
    room = Room(engine, offset_ms=None)
    room.plug(*BOTH)
    samples, frames = talk(20.0, 0.24)
    room.deliver(captures_of(samples, frames))
    assert room.live.offset_ms == 240
    assert [event.message for event in room.events if isinstance(event, Notice)] == [
        "the video lags the audio by 240 ms; this is corrected"
    ]


def test_a_recording_transcribes_to_the_same_finals(engine: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    recorder = Recorder(path, ("microphone",))
    room = Room(engine, ("microphone",), tap=recorder.take)
    room.plug("microphone")
    room.deliver(item for item in captures(5.0) if isinstance(item, Sound))
    finals = room.finals()
    assert recorder.close() is None
    assert without_latency(engine.transcribe(path, modality="audio").segments) == finals != []


def test_captions_tell_how_late_they_are(engine: Recognizer) -> None:
    room = Room(engine)
    room.plug(*BOTH)
    room.deliver(captures(3.0), late_s=0.1)
    partials = [event for event in room.events if isinstance(event, Caption) and not event.is_final]
    assert partials
    assert all(partial.latency_ms is not None and 90 < partial.latency_ms < 200 for partial in partials)
