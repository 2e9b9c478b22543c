"""Law 2: a stream's state can be copied, stored and taken up again by another stream, and is never changed in place."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins import LINES, Heard, LampFace, Packet, listen, pictures, sound

import avsr
from avsr.errors import InputError
from avsr.recognizer import Recognizer
from avsr.stream import StreamState
from avsr.traced import tensors_of
from avsr.train.ngram import NgramConfig, train_ngrams
from avsr.types import SAMPLE_RATE

SOME_LM = avsr.WordLm(train_ngrams(LINES, NgramConfig(order=2)))


def stored(state: StreamState) -> StreamState:
    """Go through bytes, as to another process."""
    again = pickle.loads(pickle.dumps(state))
    assert isinstance(again, StreamState)
    return again


@pytest.fixture(scope="module")
def other_engine(engine: Recognizer) -> Recognizer:
    """The same model, loaded a second time."""
    return avsr.load_model(engine.bundle.path)


@pytest.mark.parametrize(
    ("keep", "num_packets"),
    [(stored, 0), (stored, 1), (stored, 101), (stored, 149), (copy.deepcopy, 57), (lambda x: x, 101)],
)
def test_a_stream_is_taken_up_again_at_any_packet(
    engine: Recognizer,
    other_engine: Recognizer,
    clip: list[Packet],
    expected: Heard,
    keep: Callable[[StreamState], StreamState],
    num_packets: int,
) -> None:
    heard = Heard()
    with engine.stream(landmarker=LampFace()) as first:
        for packet in clip[:num_packets]:
            first.accept(packet)
            heard.read(first)
        state = keep(first.state)
    second = other_engine.stream(landmarker=LampFace())
    second.state = state
    heard.captions += listen(second, clip[num_packets:]).captions
    assert heard.captions == expected.captions


def test_going_on_never_changes_the_state_that_was_kept(
    engine: Recognizer, clip: list[Packet], expected: Heard
) -> None:
    stream = engine.stream(landmarker=LampFace())
    for packet in clip[:101]:
        stream.accept(packet)
    kept, before = stream.state, pickle.dumps(stream.state)
    early = list(stream.captions())
    other = listen(stream, clip[30:60])
    assert pickle.dumps(kept) == before
    again = engine.stream(landmarker=LampFace())
    again.state = kept
    finals = [caption for caption in early if caption.is_final] + listen(again, clip[101:]).finals
    assert [caption.words for caption in finals] == [caption.words for caption in expected.finals]
    assert finals[-1].words != other.finals[-1].words


def test_pictures_without_times_go_on_where_the_state_ends(engine: Recognizer) -> None:
    samples, frames = sound(2.0), pictures(2.0)

    def say(resume_at: int | None) -> Heard:
        stream, heard = engine.stream(landmarker=LampFace()), Heard()
        for index, frame in enumerate(frames):
            if index == resume_at:
                state, stream = stream.state, engine.stream(landmarker=LampFace())
                stream.state = stored(state)
            stream.accept_audio(samples[index * 640 : (index + 1) * 640], SAMPLE_RATE)
            stream.accept_video(frame.rgb)
            heard.read(stream)
        stream.finish()
        heard.read(stream)
        return heard

    whole = say(None)
    assert whole.num_words >= 5
    assert np.mean([caption.face_visible for caption in whole.finals]) == 1.0
    assert say(20).captions == whole.captions


def test_a_picture_without_a_time_follows_the_last_one(engine: Recognizer) -> None:
    stream, other = engine.stream(landmarker=LampFace()), engine.stream(landmarker=LampFace())
    stream.accept_video(np.zeros((4, 4, 3), np.uint8), t=0.055)
    other.state = stored(stream.state)
    other.accept_video(np.zeros((4, 4, 3), np.uint8))
    latest = other.state.front.video.latest
    assert latest is not None and latest.pts_us == 95_000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"chunk_ms": 160}, "chunk_ticks 8, this one has 4"),  # its waiting ticks would never make a chunk
        ({"modality": "video"}, "modality 'av', this one has 'video'"),  # nobody would listen, or look
        ({"lm": SOME_LM}, "lm None, this one has"),  # its hypotheses know no such words
        ({"hotwords": [avsr.Hotword("red")]}, "hotwords"),
    ],
)
def test_a_state_of_other_settings_is_refused(engine: Recognizer, settings: dict[str, Any], said: str) -> None:
    stream, other = engine.stream(chunk_ms=320), engine.stream(**settings)
    stream.accept_audio(sound(0.5), SAMPLE_RATE)
    before = other.state
    with pytest.raises(InputError, match=said):
        other.state = stream.state
    assert other.state is before


def test_a_state_of_another_version_is_refused(engine: Recognizer) -> None:
    stream = engine.stream()
    older = replace(stream.state, settings=replace(stream.state.settings, avsr="0.1.0"))
    with pytest.raises(InputError, match=r"with avsr '0\.1\.0', this one has '"):
        stream.state = older


def test_a_state_of_another_model_of_the_same_name_is_refused(engine: Recognizer) -> None:
    namesake = replace(engine.bundle, weights=b"learnt otherwise")
    other = Recognizer(namesake, engine.network).stream()
    with pytest.raises(InputError, match="with model "):
        other.state = engine.stream().state


def test_a_state_of_another_lm_with_as_many_ngrams_is_refused(engine: Recognizer) -> None:
    other = avsr.WordLm(train_ngrams([line.replace(" ", "s ") for line in LINES], NgramConfig(order=2)))
    with pytest.raises(InputError, match="with lm "):
        engine.stream(lm=other).state = engine.stream(lm=SOME_LM).state
    engine.stream(lm=SOME_LM.weighted(2.0)).state = engine.stream(lm=SOME_LM).state  # its words are the same


def test_what_nothing_can_follow_is_refused(engine: Recognizer) -> None:
    stream, other = engine.stream(landmarker=LampFace()), engine.stream()
    stream.finish()
    with pytest.raises(InputError, match="of a finished stream"):
        other.state = stream.state
    with pytest.raises(InputError, match="not from bytes"):
        other.state = pickle.dumps(stream.state)  # type: ignore[assignment]


def test_a_state_is_taken_to_the_device_of_the_stream(engine: Recognizer) -> None:
    class Elsewhere:
        """A network on another device than the states come from: one without values."""

        device = torch.device("meta")
        init_state = engine.traced.init_state
        step = engine.traced.step

    stream, other = engine.stream(), engine.stream(network=Elsewhere())
    other.state = stream.state
    assert {tensor.device.type for tensor in tensors_of(other.state.model)} == {"meta"}
    assert {tensor.device.type for tensor in tensors_of(stream.state.model)} == {"cpu"}
