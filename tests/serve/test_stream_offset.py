"""What a stream on the server finds out about its senses."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import pytest
from stand_ins import LampFace, packets_of
from talking import talk

from avsr.recognizer import Recognizer
from avsr.serve.client import messages
from avsr.serve.protocol import Config, Picture
from avsr.serve.session import Session


def session(engine: Recognizer, av_offset_ms: float | Literal["auto"]) -> Session:
    return Session(
        engine,
        engine.network,
        Config(av_offset_ms=av_offset_ms),
        secret="",
        number=1,
        max_picture_side=1280,
        open_landmarker=LampFace,
    )


def hear_talk(listener: Session, late_s: float, duration_s: float = 20.0) -> None:
    for message in messages(packets_of(*talk(duration_s, late_s))):
        listener.accept(message, time.monotonic())
    listener.finish()


def test_how_late_the_pictures_come_is_measured_and_corrected(engine: Recognizer) -> None:
    listener = session(engine, "auto")
    hear_talk(listener, 0.24)
    assert listener.offset_ms == 240
    finals = list(listener.finals_from(0))
    assert (finals[0].av.offset_ms, finals[-1].av.offset_ms) == (0, 240)


@pytest.mark.parametrize("given", [0.0, 240.0])
def test_an_offset_that_is_given_stays(engine: Recognizer, given: float) -> None:
    listener = session(engine, given)
    hear_talk(listener, 0.4, 4.0)
    assert {final.av.offset_ms for final in listener.finals_from(0)} == {given}


def test_late_pictures_that_are_moved_give_the_captions_of_punctual_ones(engine: Recognizer) -> None:
    samples, frames = talk(6.0, 0.0)
    told = []
    for late_ms in (0.0, 200.0):
        listener = session(engine, late_ms)
        for message in messages(packets_of(samples, frames)):
            if isinstance(message, Picture):
                message = replace(message, t_s=message.t_s + late_ms / 1000)
            listener.accept(message, time.monotonic())
        listener.finish()
        told.append([(final.text, final.av.face_visible) for final in listener.finals_from(0)])
    assert told[0] == told[1] != []
