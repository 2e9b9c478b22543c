"""The model that ships: it streams as it was trained, captions do not depend on packets, and real faces are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import avsr
from avsr import Caption, Recognizer, load_model
from avsr.corpora import noise_seen_in_training, read_clip, read_senses, read_table
from avsr.evaluate.bench import Plan, run, select_clips
from avsr.evaluate.clips import CachedFaces
from avsr.evaluate.conditions import CLEAN, Condition
from avsr.evaluate.journal import Journal
from avsr.evaluate.noises import NoiseKind, NoiseLibrary, parse_noises
from avsr.evaluate.scores import compare_texts, score
from avsr.evaluate.systems import EngineSystem
from avsr.lips import FaceMesh
from avsr.stream import Network
from avsr.types import SAMPLE_RATE, AvChunk, FloatArray, VideoFrame

DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"
CLIP_S = 2.6


@pytest.fixture(scope="module")
def model() -> Recognizer:
    return load_model()


@pytest.fixture(scope="module")
def clip() -> tuple[FloatArray, list[VideoFrame]]:
    """The first words."""
    samples, frames = read_clip(DEMO_CLIP)
    return samples[: round(CLIP_S * SAMPLE_RATE)], [frame for frame in frames if frame.pts_us < CLIP_S * 1e6]


@pytest.fixture(scope="module")
def faces() -> Iterator[CachedFaces]:
    with FaceMesh(2) as mesh:
        yield CachedFaces(mesh)


@torch.inference_mode()
def test_streaming_agrees_with_the_parallel_pass(model: Recognizer) -> None:
    senses = read_senses(DEMO_CLIP, "av")
    mel, _ = model.log_mel.step(torch.from_numpy(senses.samples), model.log_mel.init_state())
    lips = torch.from_numpy(np.stack([lip.gray for lip in senses.lips]))[None]
    heard, visible = torch.from_numpy(senses.heard)[None], torch.from_numpy(senses.visible)[None]
    network, num_ticks = model.network, senses.num_ticks
    for chunk_ticks in model.bundle.config.model.chunk_sizes:
        whole, _ = network.step(AvChunk(mel[None], lips, heard, visible), network.init_state(1, 0), chunk_ticks)
        state, pieces = network.init_state(), []
        for start in range(0, num_ticks, chunk_ticks):
            ticks = slice(start, start + chunk_ticks)
            chunk = AvChunk(
                mel[None, 4 * start : 4 * ticks.stop], lips[:, ticks], heard[:, ticks], visible[:, ticks], start
            )
            log_probs, state = network.step(chunk, state, chunk_ticks)
            pieces.append(log_probs.values)
        assert (torch.cat(pieces, dim=1).exp() - whole.values.exp()).abs().max() <= 1e-5


def test_a_quiet_microphone_is_understood(model: Recognizer) -> None:
    samples, _ = read_clip(DEMO_CLIP)
    texts = []
    for gain in (1.0, 0.01):
        with model.stream(modality="audio") as stream:
            stream.accept_audio(np.tile(samples, 2) * np.float32(gain), SAMPLE_RATE)
            stream.finish()
            texts.append([caption.text for caption in stream.captions() if caption.is_final])
    usual, quiet = texts
    assert usual[0] == usual[1]
    assert quiet[1] == usual[1]  # the first time, how loud the speech is was yet to be heard


def test_captions_are_the_same_however_the_clip_is_cut(
    model: Recognizer, clip: tuple[FloatArray, list[VideoFrame]], faces: CachedFaces
) -> None:
    heard = [_finals(model, clip, faces, np.random.default_rng(seed)) for seed in range(8)]
    assert len(heard[0][0].words) >= 5
    assert all(captions == heard[0] for captions in heard[1:])


def _finals(
    model: Recognizer,
    clip: tuple[FloatArray, list[VideoFrame]],
    faces: CachedFaces,
    rng: np.random.Generator,
) -> list[Caption]:
    """Cut the sound anywhere, deliver it up to 1 s before or after its pictures; read captions now and then."""
    samples, frames = clip
    cuts = [0, *sorted(rng.integers(0, len(samples), size=rng.integers(5, 200)).tolist()), len(samples)]
    shift_s = rng.uniform(-1, 1)
    arrivals: list[tuple[float, tuple[int, int] | VideoFrame]] = [(frame.pts_us / 1e6, frame) for frame in frames]
    arrivals += [(start / SAMPLE_RATE + shift_s, (start, end)) for start, end in pairwise(cuts)]
    captions: list[Caption] = []
    with model.stream(landmarker=faces.rewound()) as stream:
        for _, arrival in sorted(arrivals, key=lambda item: item[0]):
            if isinstance(arrival, VideoFrame):
                stream.accept_video(arrival.rgb, t=arrival.pts_us / 1e6)
            else:
                stream.accept_audio(samples[slice(*arrival)], SAMPLE_RATE, t=arrival[0] / SAMPLE_RATE)
            if rng.random() < 0.2:
                captions += stream.captions()
        stream.finish()
        captions += stream.captions()
    return [_without_timing(caption) for caption in captions if caption.is_final]


def _without_timing(caption: Caption) -> Caption:
    return replace(caption, latency_ms=None)


def test_recorded_steps_never_change_captions(
    model: Recognizer, clip: tuple[FloatArray, list[VideoFrame]], faces: CachedFaces
) -> None:
    def listen(network: Network) -> list[Caption]:
        samples, frames = clip
        with model.stream(landmarker=faces.rewound(), network=network) as stream:
            stream.accept_audio(samples, SAMPLE_RATE)
            for frame in frames:
                stream.accept_video(frame.rgb, t=frame.pts_us / 1e6)
            stream.finish()
            return [_without_timing(caption) for caption in stream.captions() if caption.is_final]

    expected = listen(model.network)
    assert len(expected[0].words) >= 5
    assert [_timed_words(caption) for caption in listen(model.traced)] == [_timed_words(each) for each in expected]


def _timed_words(caption: Caption) -> list[tuple[str, float, float]]:
    """Leave the confidence out: its last digits depend on how many pictures were looked at together."""
    return [(word.text, word.start_s, word.end_s) for word in caption.words]


def test_words_begin_and_end_where_the_corpus_has_them(model: Recognizer, shared_data: Path) -> None:
    off_s: dict[str, list[float]] = {"start_s": [], "end_s": []}
    for clip in [clip for clip in read_table(shared_data / "grid.tsv") if clip.split == "dev"][:18]:
        heard = model.transcribe(clip.path, modality="audio").words
        if [word.text for word in heard] == [word.text for word in clip.words]:
            pairs = list(zip(heard, clip.words, strict=True))
            for name, apart in off_s.items():
                apart += [abs(getattr(ours, name) - getattr(theirs, name)) for ours, theirs in pairs]
    assert len(off_s["start_s"]) >= 60
    assert np.mean(off_s["start_s"]) < 0.06
    assert np.mean(off_s["end_s"]) < 0.06


def test_lips_are_read_in_dim_light(model: Recognizer, shared_data: Path) -> None:
    (clip,) = [clip for clip in read_table(shared_data / "grid.tsv") if clip.path.stem == "bbwm6p"]
    _, frames = read_clip(clip.path)
    with model.stream(modality="video") as stream:
        for frame in frames:
            stream.accept_video((0.12 * frame.rgb).astype(np.uint8), frame.pts_us / 1e6)
        stream.finish()
        assert " ".join(caption.text for caption in stream.captions() if caption.is_final) == clip.text


def test_real_faces_are_read_and_lips_help_in_babble(model: Recognizer, shared_data: Path, tmp_path: Path) -> None:
    """A smoke test on few clips; `avsr bench` measures."""
    clips = select_clips(shared_data / "grid.tsv", "test", limit=2).clips
    (voices,) = parse_noises([f"babble={shared_data / 'speech.tsv'}"], noise_seen_in_training(shared_data))
    shortest = sorted(voices.files, key=lambda file: file[1].stat().st_size)[:8]  # all are decoded
    babble = NoiseKind("babble", tuple(shortest))
    systems = [EngineSystem(model, modality, 320) for modality in ("audio", "video", "av")]
    plan = Plan(clips, systems, [CLEAN, Condition("babble", -5.0)], NoiseLibrary([babble], seed=0))
    with Journal(tmp_path, {}) as journal:
        assert run(plan, journal) == {}
        scores = {(s.system, s.condition.snr_db): s for s in score(compare_texts(plan, journal, (), "basic"))}
    wer = {cell: found.wer.value for cell, found in scores.items()}
    assert wer["av@320", None] <= 0.15
    assert wer["video@320", None] <= 0.4
    assert wer["av@320", -5.0] <= wer["audio@320", -5.0] / 2
    assert (scores["av@320", -5.0].audio_weight or 0) < (scores["av@320", None].audio_weight or 0)
