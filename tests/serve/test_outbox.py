"""What waits for a client: finals all, partials and status the newest; and a client that does not read is given up."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from avsr.serve.limits import Bucket, Limits, Pace
from avsr.serve.outbox import Outbox, StalledClientError
from avsr.serve.protocol import AnyEvent, BothSenses, CaptionEvent, Done, Dropped, Picture, Sound, Status


def caption(kind: str, segment: int, revision: int) -> CaptionEvent:
    return CaptionEvent(
        type=kind,  # type: ignore[arg-type]
        segment=segment,
        revision=revision,
        start=0.0,
        end=0.0,
        text="",
        stable_chars=0,
        words=(),
        av=BothSenses(audio_weight=0.5, face_visible=1.0, offset_ms=0.0),
    )


def status(time_s: float) -> Status:
    return Status(
        time=time_s,
        heard=True,
        face=True,
        audio_weight=None,
        lips=None,
        dropped=Dropped(audio_s=0, pictures=0),
        lag_ms=1,
    )


async def delivered(events: list[AnyEvent]) -> list[dict[str, object]]:
    """Queue ``events`` before any can be sent; return what was sent."""
    sent: list[dict[str, object]] = []

    async def send(text: str) -> None:
        sent.append(json.loads(text))

    outbox = Outbox(send, stalled_s=1, max_waiting=10)
    for event in events:
        outbox.put(event)
    outbox.end()
    await outbox.run()
    return sent


def test_news_overtake_what_they_outdate_and_finals_are_kept() -> None:
    events: list[AnyEvent] = [
        *(caption("partial", 0, revision) for revision in range(30)),
        caption("final", 0, 30),
        status(1.0),
        caption("final", 1, 0),
        caption("partial", 2, 0),
        status(2.0),
        caption("partial", 2, 1),
        Done(duration=2.0),
    ]
    sent = asyncio.run(delivered(events))
    shown = [(event["type"], event.get("segment"), event.get("revision"), event.get("time")) for event in sent]
    assert shown == [
        ("final", 0, 30, None),
        ("final", 1, 0, None),
        ("status", None, None, 2.0),
        ("partial", 2, 1, None),
        ("done", None, None, None),
    ]


def test_a_client_that_does_not_read_is_given_up() -> None:
    async def never(_: str) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        outbox = Outbox(never, stalled_s=0.05, max_waiting=10)
        outbox.put(Done(duration=0.0))
        with pytest.raises(StalledClientError):
            await outbox.run()

    asyncio.run(run())


def test_events_that_pile_up_are_bounded() -> None:
    with pytest.raises(StalledClientError):
        asyncio.run(delivered([caption("final", segment, 0) for segment in range(12)]))


def test_a_bucket_lets_bursts_through_and_holds_the_rate() -> None:
    now = 0.0
    bucket = Bucket(10.0, lambda: now)
    assert [bucket.take(10) for _ in range(2)] == [0.0, 0.0]
    assert bucket.take(10) == pytest.approx(1.0)
    now = 3.0
    assert bucket.take(20) == 0.0
    assert bucket.take(5) == pytest.approx(0.5)


def test_pictures_are_paced_by_their_number() -> None:
    now = 0.0
    pace = Pace(Limits(max_speed=1.0), lambda: now)
    waits = [pace.media(Picture(b"x", 0.0)) for _ in range(90)]
    assert waits[59] == 0.0
    assert waits[89] == pytest.approx(1.0)


def test_time_in_which_nothing_comes_is_paced_too_but_a_pause_is_free() -> None:
    now = 0.0
    pace = Pace(Limits(max_speed=2.0), lambda: now)
    moment = np.zeros(160, np.int16)
    assert [pace.media(Sound(moment, 16_000, t_s)) for t_s in (5.0, 34.0, 34.1, 34.0, 63.0)] == [0.0] * 5
    assert pace.media(Sound(moment, 16_000, 92.0)) == pytest.approx((3 * 29.0 - 60.0) / 2)
    now = 3600.0
    assert pace.media(Picture(b"x", 3700.0)) == 0.0  # an hour asleep costs what half a minute does
