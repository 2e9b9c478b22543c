"""Laws 1, 2 and 5 through the whole engine, for the plain kinds of fusion: the other tests here have the gated one."""

from __future__ import annotations

import pickle
from typing import get_args

import pytest
from stand_ins import Heard, LampFace, Packet, listen, packets_of, pictures, sound, tiny_recognizer

from avsr.config import FusionKind
from avsr.media import AudioPacket
from avsr.recognizer import Recognizer
from avsr.types import VideoFrame

CLIP_S = 2.4
PLAIN_KINDS = [kind for kind in get_args(FusionKind) if kind != "gated"]


@pytest.fixture(scope="module", params=PLAIN_KINDS)
def plain_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """An engine of each plain kind, whose bundle went to disk and back."""
    engine = tiny_recognizer(tmp_path_factory.mktemp("models") / request.param, request.param)
    assert engine.network.config.fusion == request.param
    return engine


@pytest.fixture(scope="module")
def clip() -> list[Packet]:
    """Both senses for as long as takes two captions."""
    return packets_of(sound(CLIP_S), pictures(CLIP_S))


@pytest.fixture(scope="module")
def plain_expected(plain_engine: Recognizer, clip: list[Packet]) -> Heard:
    """What it says to ``clip``."""
    heard = listen(plain_engine.stream(landmarker=LampFace()), clip)
    assert len(heard.finals) >= 2
    assert heard.num_words >= 6
    return heard


def test_packet_size_never_changes_captions(plain_engine: Recognizer, plain_expected: Heard) -> None:
    packets = packets_of(sound(CLIP_S), pictures(CLIP_S), packet_samples=5_001)
    assert listen(plain_engine.stream(landmarker=LampFace()), packets).finals == plain_expected.finals


def test_a_stream_is_taken_up_again(plain_engine: Recognizer, clip: list[Packet], plain_expected: Heard) -> None:
    heard = Heard()
    with plain_engine.stream(landmarker=LampFace()) as first:
        for packet in clip[:61]:
            first.accept(packet)
            heard.read(first)
        state = pickle.loads(pickle.dumps(first.state))
    second = plain_engine.stream(landmarker=LampFace())
    second.state = state
    heard.captions += listen(second, clip[61:]).captions
    assert heard.captions == plain_expected.captions


@pytest.mark.parametrize(("missing", "audio_weight"), [(VideoFrame, 1.0), (AudioPacket, 0.0)])
def test_a_sense_that_never_comes_is_the_same_as_one_left_out(
    plain_engine: Recognizer, clip: list[Packet], missing: type[Packet], audio_weight: float
) -> None:
    left = [packet for packet in clip if not isinstance(packet, missing)]
    heard = listen(plain_engine.stream(landmarker=LampFace()), left)
    modality = "audio" if missing is VideoFrame else "video"
    assert heard.finals == listen(plain_engine.stream(modality=modality, landmarker=LampFace()), clip).finals
    assert heard.num_words >= 3
    assert all(caption.audio_weight == audio_weight for caption in heard.finals)
