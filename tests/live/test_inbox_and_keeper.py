"""Queues have limits; devices are opened again and again."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import DeviceError
from avsr.live import keeper as keeper_module
from avsr.live.inbox import MAX_PICTURES, Change, Inbox
from avsr.live.keeper import Keeper
from avsr.media.capture import Picture, Sound

RGB = np.zeros((2, 2, 3), np.uint8)


def sound(start_s: float) -> Sound:
    return Sound(np.zeros(16_000, np.int16), 16_000, start_s, start_s)


def drained(inbox: Inbox) -> list[object]:
    items: list[object] = []
    while (item := inbox.take(0.0)) is not None:
        items.append(item)
    return items


def test_things_come_out_in_the_order_of_their_arrival() -> None:
    inbox, items = Inbox(), [sound(0.0), Picture(RGB, 0.5), Change("camera", is_live=False, message="gone"), sound(1.0)]
    for item in items:
        inbox.put(item)
    assert all(a is b for a, b in zip(drained(inbox), items, strict=True))
    assert inbox.take(0.01) is None


def test_the_oldest_is_dropped_and_counted() -> None:
    inbox = Inbox()
    for index in range(14):
        inbox.put(sound(float(index)))
    for index in range(MAX_PICTURES + 5):
        inbox.put(Picture(RGB, float(index)))
    inbox.put(Change("camera", is_live=True, message="there"))
    items = drained(inbox)
    assert [item.host_s for item in items if isinstance(item, Sound)] == list(range(4, 14))
    assert [item.host_s for item in items if isinstance(item, Picture)] == list(range(5, MAX_PICTURES + 5))
    assert isinstance(items[-1], Change)
    assert (inbox.num_dropped_pictures, inbox.dropped_sound_s) == (5, 4.0)
    for index in range(10):  # what was taken counts no more
        inbox.put(sound(float(index)))
    assert inbox.dropped_sound_s == 4.0


def test_what_a_microphone_lost_counts_as_dropped() -> None:
    inbox = Inbox()
    inbox.put(sound(0.0))
    inbox.put(replace(sound(1.5), lost_s=0.5))
    assert inbox.dropped_sound_s == 0.5
    assert len(drained(inbox)) == 2


def test_a_waiting_loop_is_woken_at_once() -> None:
    inbox = Inbox()
    threading.Timer(0.05, inbox.put, [sound(0.0)]).start()
    begun_s = time.monotonic()
    assert inbox.take(20.0) is not None
    assert time.monotonic() - begun_s < 15


class Plug:
    """A device that is unplugged after some pictures, refuses some times, and is there again."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure
        self.num_opened = self.num_closed = 0
        self.name = "lamp"
        self._left = 0

    def open(self) -> Plug:
        self.num_opened += 1
        if self.num_opened in (2, 3):
            raise DeviceError("nothing is plugged in")
        self._left = 2 if self.num_opened == 1 else 1000
        return self

    def read(self) -> Picture:
        time.sleep(0.001)
        self._left -= 1
        if self._left < 0:
            raise self._failure
        return Picture(RGB, time.monotonic())

    def close(self) -> None:
        self.num_closed += 1


@pytest.mark.parametrize(
    ("failure", "said"),
    [(DeviceError("unplugged"), "unplugged"), (ValueError("-22"), "the camera failed: ValueError('-22')")],
)
def test_a_device_is_opened_again_and_each_reason_told_once(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str
) -> None:
    monkeypatch.setattr(keeper_module, "RETRY_S", 0.01)
    inbox, plug, told = Inbox(), Plug(failure), []
    keeper = Keeper("camera", plug.open, inbox)
    keeper.start()
    deadline_s = time.monotonic() + 60
    while len(told) < 4 and time.monotonic() < deadline_s:
        item = inbox.take(0.1)
        if isinstance(item, Change):
            told.append((item.is_live, item.message))
    keeper.stop(30.0)
    assert told == [(True, "lamp"), (False, said), (False, "nothing is plugged in"), (True, "lamp")]
    assert plug.num_closed == plug.num_opened - 2 == 2
