"""Whatever bytes come in, messages or a ProtocolError come out; what we pack, we read back."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.serve.protocol import (
    Absent,
    CaptionEvent,
    Config,
    Done,
    End,
    Picture,
    ProtocolError,
    Sound,
    pack_picture,
    pack_sound,
    parse_event,
    parse_media,
    parse_text,
)
from avsr.types import Caption, Word

quick = settings(max_examples=60, deadline=None)
times_s = st.floats(0, 1e6)


@quick
@given(st.binary(max_size=64) | st.builds(lambda tag, rest: bytes([tag]) + rest, st.integers(0, 4), st.binary()))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(parse_media(data), Sound | Picture)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@quick
@given(
    st.text(max_size=40)
    | json_values.map(json.dumps)
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["config", "end", "absent"])},
        optional=dict.fromkeys(
            ("version", "modality", "chunk_ms", "hotwords", "resume", "av_offset_ms", "sense", "time"), json_values
        ),
    ).map(json.dumps)
)
def test_any_text_is_a_message_or_an_error(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(parse_text(text), Config | End | Absent)


@quick
@given(st.binary(min_size=4, max_size=80), times_s, st.sampled_from([8000, 16000, 44100]), st.sampled_from("hf"))
def test_sound_goes_through_bit_by_bit(data: bytes, t_s: float, rate: int, kind: str) -> None:
    samples = np.frombuffer(data[: len(data) // 4 * 4], {"h": np.int16, "f": np.float32}[kind])
    again = parse_media(pack_sound(Sound(samples, rate, t_s)))
    assert isinstance(again, Sound)
    assert (again.sample_rate, again.t_s) == (rate, t_s)
    assert again.samples.dtype == samples.dtype
    assert again.samples.tobytes() == samples.tobytes()


@quick
@given(st.binary(min_size=1, max_size=80), times_s)
def test_pictures_go_through(data: bytes, t_s: float) -> None:
    assert parse_media(pack_picture(Picture(data, t_s))) == Picture(data, t_s)


@quick
@given(st.lists(st.tuples(st.text(min_size=1, max_size=6), times_s, times_s, st.floats(0, 1)), max_size=4))
def test_captions_go_through(words: list[tuple[str, float, float, float]]) -> None:
    caption = Caption(3, 2, True, tuple(Word(*word) for word in words), 0, 1.0, 2.0, 0.25, 1.0, 12.5)
    event = parse_event(CaptionEvent.of(caption, offset_ms=-40.0, latency_ms=12.5).model_dump_json())
    assert isinstance(event, CaptionEvent)
    assert event.caption() == caption
    assert event.text == caption.text


def header(tag: int = 1, t_s: float = 0.0, rate: int = 16_000) -> bytes:
    return struct.pack("<BdI", tag, t_s, rate)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x07" + bytes(20),
        header(),
        header() + b"\0",
        header(t_s=float("nan")) + bytes(2),
        header(t_s=-1.0) + bytes(2),
        header(t_s=float("inf")) + bytes(2),
        header() + bytes(2 * 16_000 * 6),
        struct.pack("<Bd", 3, 0.0),
        struct.pack("<Bd", 3, float("nan")) + b"x",
    ],
)
def test_wrong_framing_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_media(data)
    assert caught.value.code == "bad_message"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ('{"type": "hello"}', "hello"),
        ('{"type": "config", "modality": "smell"}', "modality"),
        ('{"type": "config", "path": "/etc/passwd"}', "path"),
        ('{"type": "config", "version": "1"}', "version"),
        ('{"type": "config", "av_offset_ms": NaN}', "av_offset_ms"),
        ('{"type": "config", "av_offset_ms": "soon"}', "av_offset_ms"),
        ('{"type": "absent", "sense": "video"}', "time"),
        (json.dumps({"type": "config", "token": "x" * 70_000}), "characters"),
    ],
)
def test_wrong_text_is_refused_with_its_field(text: str, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        parse_text(text)


def test_clients_ignore_fields_and_types_of_later_versions() -> None:
    assert parse_event('{"type": "applause", "loud": true}') is None
    for text in ("{", "[]", '{"duration": 3.0}', '{"type": "done"}', b"\xff"):
        with pytest.raises(InputError):
            parse_event(text)
    assert parse_event('{"type": "done", "duration": 3.0, "notes": [], "mood": "good"}') == Done(duration=3.0)
