"""Laws 1 and 2 where senses come and go: pauses, naps, and new rates; cut anywhere, each sense late, pickled midway."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field

import numpy as np
import pytest
from stand_ins import Heard, LampFace, Packet, pictures, sound

from avsr import stream as streams
from avsr.media import AudioPacket
from avsr.model import ModelState
from avsr.recognizer import Recognizer
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, AvChunk, FloatArray, LogProbs, VideoFrame

LAG_S = 1.4
"""Under the patience of 2 s, together with what a packet holds back."""
NAP_TICKS = 25
"""The network sleeps after this, that a test need not last for minutes; its left context is half of it."""


@dataclass
class Scene:
    """Runs of sound (start s, rate, samples), and pictures."""

    sounds: list[tuple[float, int, FloatArray]] = field(default_factory=list)
    frames: list[VideoFrame] = field(default_factory=list)


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw stretches with sound, pictures or both; silence, dark, and pauses of neither."""
    scene, t_s = Scene(), 0.0
    for _ in range(rng.integers(2, 5)):
        t_s += float(rng.choice([0.0, 0.5, 1.3, 3.013, 4.23]))
        duration_s, senses = float(rng.uniform(0.5, 2)), rng.choice(["av", "a", "v"], p=[0.5, 0.25, 0.25])
        if "a" in senses:
            rate = int(rng.choice([8_000, 16_000, 44_100, 48_000]))
            length = round(duration_s * rate)
            samples = sound(length / SAMPLE_RATE + 1, seed=int(rng.integers(99)))[:length]
            scene.sounds.append((t_s, rate, samples * (rng.random() < 0.8)))
        if "v" in senses:
            rate_hz, is_lit, start_us = float(rng.choice([4, 15, 25, 29.97, 60])), rng.random() < 0.8, round(t_s * 1e6)
            scene.frames += [
                VideoFrame(frame.rgb * np.uint8(is_lit), frame.pts_us + start_us)
                for frame in pictures(duration_s, rate_hz)
            ]
        t_s += duration_s
    return scene


def cut(scene: Scene, rng: np.random.Generator) -> list[Packet]:
    """Cut the sound anywhere, and let either sense come late."""
    longest_s = float(rng.choice([0.004, 0.04, 0.3, 1.0]))
    lag_s = rng.uniform(longest_s - LAG_S, LAG_S)
    arrivals: list[tuple[float, Packet]] = [(frame.pts_us / 1e6 + lag_s, frame) for frame in scene.frames]
    for start_s, rate, samples in scene.sounds:
        start = 0
        while start < len(samples):
            end = min(len(samples), start + int(rng.integers(1, max(2, round(longest_s * rate)))))
            t_s = start_s + start / rate if start == 0 or rng.random() < 0.5 else None
            arrivals.append((start_s + end / rate, AudioPacket(samples[start:end], rate, t_s)))
            start = end
    return [packet for _, packet in sorted(arrivals, key=lambda arrival: arrival[0])]


def say(engine: Recognizer, packets: list[Packet], move_at: int | None) -> tuple[Heard, float, tuple[str, ...]]:
    """Stream the packets; before that of ``move_at`` another stream goes on. Return what it said of it all."""
    stream, heard = engine.stream(landmarker=LampFace()), Heard()
    for index, packet in enumerate(packets):
        if index == move_at:
            stored, stream = pickle.dumps(stream.state), engine.stream(landmarker=LampFace())
            stream.state = pickle.loads(stored)
        stream.accept(packet)
        heard.read(stream)
    stream.finish()
    heard.read(stream)
    return heard, stream.duration_s, stream.notes()


@pytest.mark.parametrize("seed", range(1, 4))
def test_gaps_lags_cuts_and_moves_never_change_captions(
    engine: Recognizer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLEEP_TICKS", NAP_TICKS)
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    first, second = cut(scene, rng), cut(scene, rng)
    heard, duration_s, notes = say(engine, first, None)
    again, *others = say(engine, second, int(rng.integers(len(second))))
    assert again.finals == heard.finals
    assert others == [duration_s, notes]


def test_after_a_sleep_the_microphone_is_as_quiet_as_before(
    engine: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLEEP_TICKS", NAP_TICKS)
    levels_db = np.repeat([-75, -50, -60], 8)
    ticks = np.random.default_rng(4).standard_normal((len(levels_db), TICK_SAMPLES)) * 10 ** (levels_db / 20)[:, None]
    with engine.stream(modality="audio") as stream:
        stream.accept_audio(ticks.ravel().astype(np.float32), SAMPLE_RATE, t=0.0)
        assert stream.state.mel.level.is_quiet
        stream.accept_audio(np.zeros(TICK_SAMPLES, np.float32), SAMPLE_RATE, t=3 * NAP_TICKS * TICK_S)
        stream.accept_audio(np.full(10 * TICK_SAMPLES, 1e-3, np.float32), SAMPLE_RATE)
        assert stream.state.mel.level.is_quiet


@pytest.mark.parametrize(("absent_s", "num_steps"), [(19.2, 62), (72.0, 96)])
def test_the_network_is_at_rest_after_thirty_seconds_of_nothing_and_not_before(
    engine: Recognizer, absent_s: float, num_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []
    step = engine.traced.step

    def counted(chunk: AvChunk, state: ModelState, chunk_ticks: int) -> tuple[LogProbs, ModelState]:
        starts.append(chunk.start_tick)
        return step(chunk, state, chunk_ticks)

    monkeypatch.setattr(engine.traced, "step", counted)
    with engine.stream(modality="audio", chunk_ms=320) as stream:
        stream.accept_audio(sound(0.32), SAMPLE_RATE, t=0.0)
        stream.accept_audio(sound(0.32), SAMPLE_RATE, t=0.32 + absent_s)
        stream.finish()
    assert len(starts) == num_steps
