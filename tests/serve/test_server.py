"""The server over real sockets: captions as those of a stream, and no client in another one's way."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import threading
import time
import wave
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import CONFIG, FAST, Server, hear, hear_all, refusal, run_client, say
from stand_ins import Heard, LampFace, Packet, listen, sound, time_s
from test_batcher import rounded
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

import avsr
from avsr.errors import AvsrError
from avsr.media import AudioPacket
from avsr.recognizer import Recognizer
from avsr.serve.client import Client, messages
from avsr.serve.protocol import AnyEvent, CaptionEvent, Config, Picture, Sound, Status, pack_picture, pack_sound
from avsr.serve.service import Service
from avsr.types import Caption

Serve = Callable[..., Server]
BAD_PICTURE = pack_picture(Picture(b"\xff\xd8 no picture", 0.0))


def packed(packets: Iterable[Packet]) -> list[bytes]:
    return [
        pack_sound(message) if isinstance(message, Sound) else pack_picture(message) for message in messages(packets)
    ]


def captions_of(events: Iterable[dict[str, Any]], kind: str = "final") -> list[Caption]:
    return rounded(
        [
            replace(CaptionEvent.model_validate_json(json.dumps(event)).caption(), latency_ms=None)
            for event in events
            if event["type"] == kind
        ]
    )


def send_clip(client: ClientConnection, clip: Iterable[Packet], **config: Any) -> list[dict[str, Any]]:
    """Send a whole stream; return all events after ready."""
    say(client, type="config", **config)
    assert hear(client)["type"] == "ready"
    for message in packed(clip):
        client.send(message)
    say(client, type="end")
    return hear_all(client)


def test_captions_equal_those_of_a_stream(serve: Serve, clip: list[Packet], expected: Heard) -> None:
    server = serve()
    with server.talk() as client:
        events = send_clip(client, clip, preview=True)
    assert captions_of(events) == rounded(expected.finals)
    assert events[-1] == {"type": "done", "duration": 3.0, "notes": []}
    assert client.close_code == 1000
    statuses = [event for event in events if event["type"] == "status"]
    assert statuses
    assert all(event["heard"] and event["face"] and event["lips"] for event in statuses)
    for before, after in pairwise(event for event in events if event["type"] in ("partial", "final")):
        if before["segment"] == after["segment"]:
            assert after["text"].startswith(before["text"][: before["stable_chars"]])


def finals_of(events: list[AnyEvent]) -> list[Caption]:
    return rounded(
        [
            replace(event.caption(), latency_ms=None)
            for event in events
            if isinstance(event, CaptionEvent) and event.type == "final"
        ]
    )


def test_the_client_loses_nothing(serve: Serve, clip: list[Packet], expected: Heard) -> None:
    events = run_client(serve(), clip)
    assert finals_of(events) == rounded(expected.finals)
    assert [event.time for event in events if isinstance(event, Status)][-1] > 2.5


def test_the_whole_client_of_the_protocol_is_one(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, page = serve(), (Path(avsr.__file__).parent / "serve" / "PROTOCOL.md").read_text()
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((sound(3.0) * 32767).astype("<i2").tobytes())
    monkeypatch.chdir(tmp_path)
    code = page.split("```python\n")[1].split("```")[0]
    assert "ws://127.0.0.1:8765/ws" in code
    exec(code.replace("ws://127.0.0.1:8765/ws", server.url), {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_many_clients_at_once_get_their_own_captions(serve: Serve, clip: list[Packet], expected: Heard) -> None:
    server = serve()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run_client(server, clip), range(4)))
    assert all(finals_of(events) == rounded(expected.finals) for events in results)


def test_lost_pictures_and_bursts_give_the_captions_of_a_local_stream(
    serve: Serve, engine: Recognizer, clip: list[Packet]
) -> None:
    rng = np.random.default_rng(1)
    kept = [packet for packet in clip if isinstance(packet, AudioPacket) or rng.random() > 0.2]
    burst_s = 0.8
    in_bursts = sorted(kept, key=lambda packet: (time_s(packet) // burst_s, isinstance(packet, AudioPacket)))
    expected = listen(engine.stream(landmarker=LampFace()), kept)
    events = run_client(serve(), in_bursts)
    assert finals_of(events) == rounded(expected.finals) != []


def test_a_lost_connection_is_resumed_without_losing_or_doubling_finals(
    serve: Serve, clip: list[Packet], expected: Heard
) -> None:
    server, outgoing = serve(), packed(clip)
    say_resume: dict[str, Any] | None = None
    events: list[dict[str, Any]] = []
    for stop in (40, 90, len(outgoing)):
        with server.talk() as client:
            say(client, type="config", **({"resume": say_resume} if say_resume else {}))
            ready = hear(client, "ready")
            assert ready["resumed"] == (say_resume is not None)
            # What came twice is dropped: the server says what it has, but a client may send more.
            for message in outgoing[:stop]:
                client.send(message)
            if stop == len(outgoing):
                say(client, type="end")
                events += hear_all(client)
            else:
                while (event := hear(client))["type"] != "final" and event.get("time", 0) < 0.5 * stop * 0.02:
                    events.append(event)
                events += [event] if event["type"] == "final" else []
                client.socket.shutdown(socket.SHUT_RDWR)
        finals = [event["segment"] for event in events if event["type"] == "final"]
        say_resume = {"session": ready["session"], "next_segment": max(finals, default=-1) + 1}
    assert captions_of(events) == rounded(expected.finals)


def test_the_client_takes_up_a_lost_connection_by_itself(serve: Serve, clip: list[Packet], expected: Heard) -> None:
    server = serve(replace(FAST, max_speed=4.0))
    events: list[AnyEvent] = []
    num_cuts = 0

    class CutClient(Client):
        def _take(self, text: str | bytes) -> None:
            nonlocal num_cuts
            super()._take(text)
            if isinstance(events[-1], Status) and num_cuts < 2:
                num_cuts += 1
                raise ConnectionClosed(None, None)

    asyncio.run(CutClient(server.url, events.append).send(clip, Config()))
    assert num_cuts == 2
    assert server.service.metrics.value("avsr_resumed_total") == 2
    assert finals_of(events) == rounded(expected.finals)


def test_another_connection_takes_over(serve: Serve, clip: list[Packet]) -> None:
    server = serve()
    with server.talk() as first, server.talk() as second:
        say(first, type="config")
        session = hear(first)["session"]
        first.send(packed(clip)[0])
        say(second, type="config", resume={"session": session})
        assert hear(second, "ready")["resumed"]
        assert hear(first, "error")["code"] == "taken_over"
        say(second, type="end")
        assert hear_all(second)[-1]["type"] == "done"
    assert server.service.num_sessions == 0


@pytest.mark.parametrize(
    ("sent", "code", "close_code"),
    [
        (["{"], "bad_message", 1007),
        ([b"\x01"], "bad_message", 1007),
        ([json.dumps({"type": "end"})], "bad_message", 1007),
        ([json.dumps({"type": "config", "version": 2})], "bad_message", 1007),
        ([json.dumps({"type": "config", "chunk_ms": 100})], "bad_config", 1008),
        ([json.dumps({"type": "config", "hotwords": [{"phrase": "…"}]})], "bad_config", 1008),
        ([json.dumps({"type": "config", "resume": {"session": "../../etc"}})], "unknown_session", 1008),
        ([CONFIG, CONFIG], "bad_message", 1007),
        ([CONFIG, b"\x09garbage"], "bad_message", 1007),
        ([CONFIG, BAD_PICTURE], "bad_media", 1007),
        ([CONFIG, struct.pack("<BdIh", 1, 0.0, 100, 0)], "bad_media", 1007),
        ([CONFIG, struct.pack("<BdIh", 1, 0.0, 50_001, 0)], "bad_media", 1007),
    ],
)
def test_a_client_that_breaks_the_rules_is_told_which_and_harms_nobody(
    shared_server: tuple[Server, ClientConnection, Callable[[], None]],
    sent: list[str | bytes],
    code: str,
    close_code: int,
) -> None:
    server, _, go_on = shared_server
    assert refusal(server, *sent) == (code, close_code)
    go_on()
    assert server.service.num_sessions == 1


@pytest.fixture(scope="module")
def shared_server(
    engine: Recognizer, clip: list[Packet]
) -> Iterable[tuple[Server, ClientConnection, Callable[[], None]]]:
    """A server with a well-behaved client in it, and a function that sends a bit more of its stream."""
    server = Server(Service(engine, replace(FAST, idle_s=600), open_landmarker=LampFace))
    outgoing = iter(packed(clip))
    with server.talk() as client:
        say(client, type="config")
        hear(client, "ready")

        def go_on() -> None:
            for _ in range(10):
                client.send(next(outgoing))

        yield server, client, go_on
        say(client, type="end")
        assert hear_all(client)[-1]["type"] == "done"
    server.close()


def test_beyond_capacity_clients_are_told_busy_at_once(serve: Serve, clip: list[Packet]) -> None:
    server = serve(replace(FAST, max_sessions=1))
    with server.talk() as first:
        say(first, type="config")
        session = hear(first, "ready")["session"]
        first.send(packed(clip)[0])
        with server.talk() as second:
            say(second, type="config")
            error = hear(second)
            assert (error["code"], error["retry"]) == ("busy", True)
            assert hear_all(second) == []
            assert second.close_code == 1013
    wait_until(lambda: server.service._seats[session].is_free.is_set())
    assert refusal(server, json.dumps({"type": "config", "chunk_ms": 7}))[0] == "bad_config"
    assert session in server.service._seats, "who is refused takes nobody's place"
    with server.talk() as third:  # the first one's place, which it may have wanted to come back to, is given away
        say(third, type="config")
        assert hear(third)["type"] == "ready"
    assert refusal(server, json.dumps({"type": "config", "resume": {"session": session}}))[0] == "unknown_session"


def wait_until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_connections_that_say_nothing_are_limited_and_go(serve: Serve) -> None:
    server = serve(replace(FAST, max_sessions=1, max_newcomers=2, config_s=0.5))
    with server.talk() as first, server.talk(), server.talk():
        with pytest.raises(InvalidStatus) as caught, server.talk():
            pass
        assert caught.value.response.status_code == 503
        assert hear_all(first)[-1]["code"] == "idle"
    wait_until(lambda: server.service.num_connections == 0)
    assert refusal(server, "{")[0] == "bad_message"


def test_a_stream_that_nobody_comes_back_to_is_given_up(serve: Serve, clip: list[Packet]) -> None:
    server = serve(replace(FAST, resume_s=0.2))
    with server.talk() as client:
        say(client, type="config")
        hear(client, "ready")
        client.send(packed(clip)[0])
        client.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: server.service.num_sessions == 0)


def test_idle_clients_and_endless_streams_are_ended(serve: Serve, clip: list[Packet]) -> None:
    idle = serve(replace(FAST, idle_s=0.2, config_s=0.2))
    assert refusal(idle)[0] == "idle"
    assert refusal(idle, CONFIG)[0] == "idle"
    with serve(replace(FAST, total_s=1.0)).talk() as client:
        say(client, type="config")
        hear(client, "ready")
        for message in packed(clip)[:120]:
            client.send(message)
        events = hear_all(client)
    assert events[-1]["code"] == "time_limit"
    assert [event for event in events if event["type"] == "final"]


def test_a_fast_client_is_held_to_the_pace(serve: Serve, clip: list[Packet], expected: Heard) -> None:
    begun_s = time.monotonic()
    events = run_client(serve(replace(FAST, max_speed=0.5)), clip)
    assert time.monotonic() - begun_s > 3.0 / 0.5 - 2.0 - 0.5  # less the burst
    assert finals_of(events) == rounded(expected.finals)


def test_a_message_above_the_limit_closes_that_connection(serve: Serve) -> None:
    server = serve(replace(FAST, max_message_bytes=2000))
    with server.talk() as client:
        say(client, type="config")
        hear(client, "ready")
        client.send(pack_picture(Picture(bytes(3000), 0.0)))
        assert hear_all(client) == []
        assert client.close_code == 1009


def test_a_stalled_client_is_dropped_and_delays_nobody(serve: Serve, clip: list[Packet], expected: Heard) -> None:
    server, outgoing = serve(replace(FAST, stalled_s=0.5)), packed(clip)
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that little is on its way

    async def shout() -> None:
        """Send without end, and never read an answer."""
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(server.address.split(":")[1])))
        async with connect_async(server.url, sock=narrow, max_queue=1, compression=None, close_timeout=0.1) as stalled:
            await stalled.send(json.dumps({"type": "config", "preview": True}))
            for lap in range(100):
                for message in outgoing:
                    shifted = bytearray(message)
                    struct.pack_into("<d", shifted, 1, 3.0 * lap + struct.unpack_from("<d", message, 1)[0])
                    await stalled.send(bytes(shifted))

    def run_shout() -> None:
        with suppress(ConnectionClosed, OSError):
            asyncio.run(shout())

    shouting = threading.Thread(target=run_shout)
    shouting.start()
    assert finals_of(run_client(server, clip)) == rounded(expected.finals)
    wait_until(lambda: server.service.metrics.value("avsr_stalled_total") == 1, 60)
    shouting.join(20)
    assert not shouting.is_alive()


def test_a_sense_that_is_said_to_be_absent_is_not_waited_for(serve: Serve, clip: list[Packet]) -> None:
    sounds = [message for message in messages(clip) if isinstance(message, Sound)][:40]
    with serve().talk() as client:
        say(client, type="config")
        hear(client, "ready")
        for message in sounds:
            client.send(pack_sound(message))
            say(client, type="absent", sense="video", time=message.t_s)
        assert hear(client, "status")["time"] < 0.5
        while hear(client, "status")["time"] < 1.2:
            pass


def test_no_server_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(AvsrError, match="avsr serve"):
        asyncio.run(Client("ws://127.0.0.1:9/ws", print).send([], Config()))


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_hundreds_of_connects_and_disconnects_leave_no_memory(serve: Serve, clip: list[Packet]) -> None:
    server, first = serve(), packed(clip)[0]

    def come_and_go(times: int) -> None:
        for index in range(times):
            with server.talk() as client:
                if index % 8 == 0:  # gone before the stream is there
                    say(client, type="config")
                elif index % 4 == 0:
                    say(client, type="config")
                    hear(client, "ready")
                    client.send(first)
                client.socket.shutdown(socket.SHUT_RDWR)

    come_and_go(100)
    before_mb = resident_mb()
    come_and_go(400)
    assert resident_mb() - before_mb < 6
    with server.talk() as client:
        assert send_clip(client, clip)[-1]["type"] == "done"
