"""Law 1: however the input is cut into packets, the captions are the same; a file is a stream that does not wait."""

from __future__ import annotations

import io
import threading
import wave
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import Heard, LampFace, Packet, listen, packets_of, pictures, sound, time_s, without_latency

import avsr
from avsr.decode import BeamSearch, Captioner, CaptionerInput, CaptionerState
from avsr.frontend import FrontEnd, SenseTicks, join_ticks
from avsr.lips import LipTracker
from avsr.media import AudioPacket, open_media
from avsr.recognizer import MAX_PATIENCE_S, Recognizer
from avsr.types import SAMPLE_RATE, TICK_SAMPLES, AvChunk, Caption, FloatArray, VideoFrame, level_db

DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"
LAG_S = 1.9
"""Under the patience of 2 s."""


def recut(packets: list[Packet], seed: int, sample_rate: int = SAMPLE_RATE) -> list[Packet]:
    """Cut the sound anew, anywhere, and let either sense run ahead of the other, within the patience."""
    rng = np.random.default_rng(seed)
    samples = np.concatenate([packet.samples for packet in packets if isinstance(packet, AudioPacket)])
    longest = int(rng.choice([40, 700, 5_000, 16_000]))
    cuts = [0]
    while cuts[-1] < len(samples):
        cuts.append(min(len(samples), cuts[-1] + int(rng.integers(1, longest))))
    arrivals: list[tuple[float, Packet]] = []
    for start, end in pairwise(cuts):
        cut = samples[start:end] if seed % 2 else np.round(samples[start:end] * 32768).astype(np.int16)
        t_s = start / sample_rate if start == 0 or rng.random() < 0.5 else None
        arrivals.append((end / sample_rate, AudioPacket(cut, sample_rate, t_s)))
    delay_s = rng.uniform(longest / sample_rate - LAG_S, LAG_S)
    arrivals += [(time_s(packet) + delay_s, packet) for packet in packets if isinstance(packet, VideoFrame)]
    return [packet for _, packet in sorted(arrivals, key=lambda arrival: arrival[0])]


def assert_same(heard: Heard, expected: Heard) -> None:
    """Check that all finals are the same, and all partials that both gave: larger packets overtake some of them."""
    assert heard.finals == expected.finals
    partials = {(caption.segment, caption.revision): caption for caption in expected.captions}
    assert all(caption == partials.get((caption.segment, caption.revision), caption) for caption in heard.captions)


def assert_consistent(captions: list[Caption]) -> None:
    """Check that what was called stable stays, and that revisions and segments count up."""
    assert captions[-1].is_final
    for before, after in pairwise(captions):
        if before.is_final:
            assert after.segment == before.segment + 1
        else:
            assert after.segment == before.segment
            assert after.revision > before.revision
            assert after.text.startswith(before.text[: before.stable_chars])


@pytest.mark.parametrize("seed", range(12))
def test_packet_size_never_changes_captions(engine: Recognizer, clip: list[Packet], expected: Heard, seed: int) -> None:
    heard = listen(engine.stream(landmarker=LampFace()), recut(clip, seed))
    assert_same(heard, expected)
    assert_consistent(heard.captions)


def test_threads_that_share_a_stream_never_change_captions(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    """A microphone's and a camera's, while a third one reads."""
    heard, is_over = Heard(), threading.Event()

    def read() -> None:
        while not is_over.is_set():
            heard.read(stream)

    def push(kind: type[Packet]) -> None:
        for packet in clip:
            if isinstance(packet, kind):
                stream.accept(packet)

    with engine.stream(landmarker=LampFace(), patience_s=MAX_PATIENCE_S) as stream, ThreadPoolExecutor(3) as pool:
        reading = pool.submit(read)
        pushing = [pool.submit(push, kind) for kind in (AudioPacket, VideoFrame)]
        try:
            for each in pushing:
                each.result()
            stream.finish()
        finally:
            is_over.set()
        reading.result()
        heard.read(stream)
    assert_same(heard, expected)


def test_a_picture_without_a_time_comes_after_what_another_thread_is_pushing(engine: Recognizer) -> None:
    """Sound that gives the pictures up is being recognised: the picture's time is not one that is over by then."""
    stream, picture = engine.stream(landmarker=LampFace()), pictures(0.04)[0].rgb
    camera = threading.Thread(target=stream.accept_video, args=(picture,))

    def while_recognising(_: SenseTicks) -> None:
        if camera.ident is None:
            camera.start()
            camera.join(0.2)

    stream.accept_video(picture)
    stream.on_ticks = while_recognising
    stream.accept_audio(sound(4.0), SAMPLE_RATE)
    camera.join()
    assert stream.state.front.video.dropped_frames == 0
    stream.close()


@pytest.mark.parametrize("chunk_ms", [160, 640])
def test_every_chunk_length_keeps_the_law(engine: Recognizer, clip: list[Packet], chunk_ms: int) -> None:
    first, second = (
        listen(engine.stream(chunk_ms=chunk_ms, landmarker=LampFace()), packets)
        for packets in (clip, recut(clip, seed=chunk_ms))
    )
    assert first.num_words >= 9
    assert_same(second, first)


def test_the_captioner_is_told_how_loud_and_how_open_every_tick_is(
    engine: Recognizer, clip: list[Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    levels_db: list[float | None] = []
    openings: list[float | None] = []
    step = Captioner.step

    def note(self: Captioner, inputs: CaptionerInput, state: CaptionerState) -> object:
        levels_db.extend(inputs.loudness_db)
        openings.extend(inputs.mouth_opening)
        return step(self, inputs, state)

    monkeypatch.setattr(Captioner, "step", note)
    ticks: list[SenseTicks] = []
    stream = engine.stream(landmarker=LampFace())
    stream.on_ticks = ticks.append
    listen(stream, clip)
    whole = join_ticks(ticks)
    loud = [level_db(samples) for samples in whole.samples.reshape(-1, TICK_SAMPLES)]
    assert levels_db == [level if heard else None for level, heard in zip(loud, whole.heard, strict=True)]
    assert openings == [lip.mouth_opening for lip in whole.lips]
    assert None not in (levels_db[0], openings[0])


@torch.inference_mode()
def test_live_chunks_say_what_one_pass_over_everything_says(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    front = FrontEnd("av", LipTracker(LampFace()))
    state = front.init_state()
    for packet in clip:
        state = front.accept(packet, state)
    ticks, _ = front.take(10_000, front.end(state))
    assert ticks is not None
    openings, levels_db = ticks.mouth_and_voice()
    mel, _ = engine.log_mel.step(torch.from_numpy(ticks.samples), engine.log_mel.init_state())
    lips = torch.from_numpy(np.stack([lip.gray for lip in ticks.lips]))
    heard, visible = torch.from_numpy(ticks.heard), torch.from_numpy(ticks.visible)
    log_probs, _ = engine.network.step(
        AvChunk(mel[None], lips[None], heard[None], visible[None]),
        engine.network.init_state(context_ticks=0),
        chunk_ticks=8,
    )
    decode = engine.bundle.config.decode
    captioner = Captioner(decode, engine.tokenizer, BeamSearch(decode, engine.tokenizer))
    captions, captioner_state = captioner.step(
        CaptionerInput(
            log_probs.values[0].numpy(),
            log_probs.audio_weight[0].numpy(),
            ticks.heard,
            ticks.visible,
            start_tick=0,
            loudness_db=levels_db,
            mouth_opening=openings,
        ),
        captioner.init_state(),
    )
    finals = [caption for caption in (*captions, *captioner.flush(captioner_state)) if caption.is_final]
    assert [timed_text(final) for final in finals] == [timed_text(final) for final in expected.finals]


def timed_text(caption: Caption) -> list[tuple[str, float, float]]:
    """What is said when."""
    return [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in caption.words]


def test_resampled_sound_keeps_the_law(engine: Recognizer) -> None:
    packets = packets_of(sound(4.0), [], packet_samples=441, sample_rate=44_100)
    heard = [
        listen(engine.stream(modality="audio"), cut) for cut in (packets, *(recut(packets, s, 44_100) for s in (1, 3)))
    ]
    assert heard[0].num_words >= 5
    for other in heard[1:]:
        assert_same(other, heard[0])


@pytest.mark.parametrize("rate_hz", [12.0, 29.97])
def test_any_camera_keeps_the_law(engine: Recognizer, rate_hz: float) -> None:
    packets = packets_of(sound(3.0), pictures(3.0, rate_hz))
    first, second = (listen(engine.stream(landmarker=LampFace()), cut) for cut in (packets, recut(packets, seed=1)))
    assert first.num_words >= 5
    assert_same(second, first)


def test_a_file_is_a_stream_that_does_not_wait(engine: Recognizer) -> None:
    samples = sound(6.0)
    transcript = engine.transcribe(wav_file(samples), modality="audio")
    heard = listen(engine.stream(modality="audio"), recut(packets_of(samples, []), seed=3))
    assert sum(len(segment.words) for segment in transcript.segments) >= 5
    assert without_latency(transcript.segments) == heard.finals
    assert transcript.duration_s == pytest.approx(6.0)


def test_a_film_with_a_real_face_tracker_is_a_stream_that_does_not_wait(engine: Recognizer) -> None:
    transcript = engine.transcribe(DEMO_CLIP)
    with open_media(DEMO_CLIP) as media:
        packets = list(media)
    sample_rate = next(packet.sample_rate for packet in packets if isinstance(packet, AudioPacket))
    heard = listen(engine.stream(), recut(packets, 5, sample_rate))
    assert sum(len(segment.words) for segment in transcript.segments) >= 3
    assert all(segment.face_visible > 0.9 for segment in transcript.segments)
    assert without_latency(transcript.segments) == heard.finals


def wav_file(samples: FloatArray) -> io.BytesIO:
    """Put f32 (n,) at 16 kHz, exact in 16 bits, into a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        writer.writeframes(np.round(samples * 32768).astype("<i2").tobytes())
    file.seek(0)
    return file
