"""A server that is killed and started again in the middle of streams: clients go on, and keep what they have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from serving import Server
from stand_ins import packets_of, sound

from avsr.serve.client import Client, after
from avsr.serve.limits import Limits
from avsr.serve.protocol import AnyEvent, CaptionEvent, Config, Picture, Ready, Sound

DURATION_S = 12.0


def test_a_killed_server_costs_no_final_that_had_arrived_and_the_stream_goes_on(
    serve: Callable[..., Server],
) -> None:
    server = serve(Limits(max_speed=3.0))
    events: list[AnyEvent] = []

    def take(event: AnyEvent) -> None:
        """Once two finals are there, the server is killed and another one started."""
        nonlocal server
        events.append(event)
        if isinstance(event, CaptionEvent) and event.type == "final" and event.segment == 1 and len(finals()) == 2:
            server.kill()
            server = serve(Limits(max_speed=3.0), port=port)

    def finals() -> list[CaptionEvent]:
        return [event for event in events if isinstance(event, CaptionEvent) and event.type == "final"]

    url, port = server.url, int(server.address.split(":")[1])
    packets = packets_of(sound(DURATION_S), [])
    done = asyncio.run(Client(url, take).send(packets, Config(modality="audio")))
    assert done.duration == pytest.approx(DURATION_S, abs=0.1)
    assert [event.resumed for event in events if isinstance(event, Ready)] == [False, False]
    assert [final.segment for final in finals()] == list(range(len(finals())))
    spoken = [final for final in finals() if final.words]
    assert all(before.end <= behind.start + 0.04 for before, behind in pairwise(spoken))
    assert spoken[-1].end > DURATION_S - 2.5
    gaps_s = [behind.start - before.end for before, behind in pairwise(spoken)]
    assert max(gaps_s) < 2.0


def test_what_a_new_stream_is_sent_begins_after_the_last_final() -> None:
    packet = Sound(np.arange(100, dtype=np.int16), 10_000, 1.0)
    assert after(packet, 0.5) is packet
    assert after(packet, 1.01) is None
    cut = after(packet, 1.00401)
    assert isinstance(cut, Sound)
    assert (cut.samples[0], cut.t_s, cut.end_s) == (41, pytest.approx(1.0041), pytest.approx(packet.end_s))
    assert after(Picture(b"", 1.0), 1.01) is None
