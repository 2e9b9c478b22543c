"""What a stream on the server finds out about its senses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from stand_ins import LampFace, packets_of
from talking import talk

from avsr.recognizer import Recognizer
from avsr.serve.client import messages
from avsr.serve.protocol import Config, Picture, Sound
from avsr.serve.session import Session
from avsr.types import SAMPLE_RATE


def session(engine: Recognizer, av_offset_ms: float | Literal["auto"]) -> Session:
    return Session(
        engine,
        engine.network,
        Config(av_offset_ms=av_offset_ms),
        secret="",
        number=1,
        max_picture_side=1280,
        open_landmarker=LampFace,
        on_final=lambda final: None,
    )


def cut_anew(sent: Sequence[Sound | Picture], packet_samples: int, behind_s: float) -> list[Sound | Picture]:
    """Return the same input with the sound in other packets, each of which comes ``behind_s`` after its end."""
    samples = np.concatenate([message.samples for message in sent if isinstance(message, Sound)])
    sounds = [
        Sound(samples[start : start + packet_samples], SAMPLE_RATE, start / SAMPLE_RATE)
        for start in range(0, len(samples), packet_samples)
    ]
    arrivals = [(sound.end_s + behind_s, sound) for sound in sounds]
    arrivals += [(message.t_s, message) for message in sent if isinstance(message, Picture)]
    return [message for _, message in sorted(arrivals, key=lambda arrival: arrival[0])]


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


def test_the_correction_shows_nothing_of_how_the_input_was_cut(engine: Recognizer) -> None:
    sent = list(messages(packets_of(*talk(24.0, 0.24))))
    told = []
    for packet_samples, behind_s in ((24_000, 0.0), (640, 1.0)):
        listener = session(engine, "auto")
        for message in cut_anew(sent, packet_samples, behind_s):
            listener.accept(message, time.monotonic())
        listener.finish()
        told.append([final.model_copy(update={"latency_ms": None}) for final in listener.finals_from(0)])
    assert told[0][-1].av.offset_ms == 240
    assert told[0] == told[1]


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
