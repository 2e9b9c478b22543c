"""The client of `avsr send`: it uses no proxy, continues after the end of a stream, and keeps what it has received."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import FAST, Server
from stand_ins import Packet, packets_of, sound
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

import avsr
from avsr import cli
from avsr.errors import AvsrError, InputError
from avsr.serve.client import Client, _Base, _TryAgainError, after, has_arrived
from avsr.serve.limits import Limits
from avsr.serve.protocol import AnyEvent, CaptionEvent, Config, Done, ErrorEvent, Ready, Received, Sound
from avsr.types import Caption, Word

CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"
DURATION_S = 3.0


def said(text: str, segment: int, revision: int, *, is_final: bool = False) -> CaptionEvent:
    words = tuple(Word(word, float(index), index + 0.5, 1.0) for index, word in enumerate(text.split()))
    caption = Caption(segment, revision, is_final, words, 0, 0.0, float(len(words)), 0.5, 1.0)
    return CaptionEvent.of(caption, offset_ms=0.0, latency_ms=None)


def events_of(server: Server, packets: Iterator[Packet], *, in_real_time: bool) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    client = Client(server.url, events.append, in_real_time=in_real_time)
    asyncio.run(client.send(packets, Config(modality="audio")))
    assert client.notes == ()
    return events


@pytest.mark.parametrize("scheme", ["http", "socks5h", "ftp"])
def test_a_proxy_in_the_environment_is_ignored(
    scheme: str, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
            monkeypatch.setenv(name, f"{scheme}://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        events = events_of(serve(), iter(packets_of(sound(0.5), [])), in_real_time=False)
        assert isinstance(events[-1], Done)
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize(
    ("limits", "pause_s"),
    [
        pytest.param(replace(FAST, total_s=1.2), 0.0, id="of too long a stream"),
        pytest.param(replace(FAST, idle_s=0.3), 1.0, id="of a silent one"),
    ],
)
def test_a_stream_goes_on_after_the_server_has_ended_it(
    limits: Limits, pause_s: float, serve: Callable[..., Server]
) -> None:
    packets = packets_of(sound(DURATION_S), [])

    def sent() -> Iterator[Packet]:
        for index, packet in enumerate(packets):
            time.sleep(pause_s if index == len(packets) // 2 else 0.0)
            yield packet

    events = events_of(serve(limits), sent(), in_real_time=not pause_s)
    assert len([event for event in events if isinstance(event, Ready)]) >= 2
    assert isinstance(events[-1], Done)
    assert events[-1].duration == pytest.approx(DURATION_S, abs=0.1)
    finals = [event for event in events if isinstance(event, CaptionEvent) and event.type == "final"]
    assert [final.segment for final in finals] == list(range(len(finals)))
    assert all(before.end <= behind.start + 0.04 for before, behind in pairwise(finals))
    assert finals[0].start < 1.0
    assert finals[-1].end > DURATION_S - 1.0


def test_only_what_was_not_recognised_yet_counts_as_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 s of silence that the server knew of, then 3 s of which it had no status, and which were too much to keep."""
    client = Client("ws://127.0.0.1:1/ws", lambda event: None)
    second = [Sound(np.zeros(16_000, np.int16), 16_000, float(start_s)) for start_s in range(604)]
    client._kept.extend(second)
    monkeypatch.setattr("avsr.serve.client.MAX_KEPT_BYTES", second[0].num_bytes)
    client._forget_before(600.0)
    begins_anew = ErrorEvent(code="unknown_session", message="new here")
    client._has_begun = True
    for _ in range(2):
        with pytest.raises(_TryAgainError):
            client._handle_error(begins_anew)
    assert client.notes == ("3.0 s have no captions: the server was restarted, and their media no longer buffered",)


def test_the_last_partial_of_a_lost_server_is_withdrawn() -> None:
    events: list[AnyEvent] = []
    client = Client("ws://127.0.0.1:1/ws", events.append)
    client._has_begun = True
    begins_anew = ErrorEvent(code="unknown_session", message="new here")

    def lose() -> None:
        with pytest.raises(_TryAgainError):
            client._handle_error(begins_anew)

    client._take(said("bin", 0, 0).model_dump_json())
    client._take(said("bin blue", 0, 1).model_dump_json())
    lose()
    lose()
    client._take(said("lay", 0, 0).model_dump_json())
    client._take(said("lay red", 0, 1, is_final=True).model_dump_json())
    client._take(said("now", 1, 0).model_dump_json())
    told = [(event.text, event.segment, event.revision) for event in events if isinstance(event, CaptionEvent)]
    lost, found = [("bin", 0, 0), ("bin blue", 0, 1), ("", 0, 2)], [("lay", 0, 3), ("lay red", 0, 4), ("now", 1, 0)]
    assert told == lost + found


@given(
    base_s=st.floats(0, 1e5),
    start_s=st.floats(0, 1e5),
    num_samples=st.integers(1, 96_000),
    rate=st.sampled_from([8_000, 44_100, 48_000]),
)
def test_what_has_arrived_is_not_sent_again_despite_rounded_times(
    base_s: float, start_s: float, num_samples: int, rate: int
) -> None:
    message = Sound(np.zeros(num_samples, np.int16), rate, base_s + start_s)
    sent = after(message, base_s)
    assert isinstance(sent, Sound)
    in_its_time = replace(sent, t_s=sent.t_s - base_s)
    placed = _Base(base_s).placed(Ready.model_construct(received=Received(audio=in_its_time.end_s, video=0.0)))
    assert isinstance(placed, Ready)
    assert has_arrived(message, placed.received)


@pytest.fixture
def told(serve: Callable[..., Server]) -> list[str]:
    """`ready` and the finals of a stream."""
    events = events_of(serve(), iter(packets_of(sound(3.0), [])), in_real_time=False)
    return [event.model_dump_json() for event in events if event.type in ("ready", "final")]


@contextmanager
def serving(converse: Callable[[ServerConnection], None]) -> Iterator[str]:
    """Serve clients in a way of its own; yield the address."""
    with serve_websocket(converse, "127.0.0.1", 0, close_timeout=1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        server.shutdown()


def test_finals_are_written_though_the_stream_ends_in_an_error(
    told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = json.dumps({"type": "error", "code": "internal", "message": "out of luck", "retry": False})

    def fail(connection: ServerConnection) -> None:
        connection.recv()
        for line in (*told, failed):
            connection.send(line)

    with serving(fail) as url:
        monkeypatch.setattr(sys, "argv", ["avsr", "send", str(CLIP), "--url", url, "--format", "json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "out of luck" in said.err
    written = json.loads(said.out)
    assert len(written["segments"]) == len(told) - 1 > 0
    assert any("out of luck" in warning for warning in written["warnings"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process work otherwise there")
def test_a_second_ctrl_c_writes_what_has_arrived_at_once(told: list[str]) -> None:
    has_said, may_end = threading.Event(), threading.Event()

    def hang(connection: ServerConnection) -> None:
        connection.recv()
        for line in told:
            connection.send(line)
        has_said.set()
        may_end.wait(60)  # and reads no more

    with serving(hang) as url:
        command = [sys.executable, "-m", "avsr", "send", str(CLIP), "--url", url, "--format", "json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert has_said.wait(60)
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            pressed_s = time.monotonic()
            output, errors = process.communicate(timeout=60)
            assert time.monotonic() - pressed_s < 5
        may_end.set()
    assert process.returncode == 130
    assert "Traceback" not in errors
    written = json.loads(output)
    assert len(written["segments"]) == len(told) - 1 > 0
    assert any("interrupted" in warning for warning in written["warnings"])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:8765/", "scheme isn't ws or wss"),
        ("127.0.0.1:8765", "scheme isn't ws or wss"),
        ("ws:///ws", "hostname isn't provided"),
        ("ws://me:secret@127.0.0.1/ws#token=x", "fragment identifier is meaningless"),
    ],
)
def test_an_invalid_address_is_refused_with_an_example_of_a_valid_one(url: str, told: str) -> None:
    with pytest.raises(InputError, match=f"{told}; give one like ws://") as raised:
        Client(url, print)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "told"), [("ws://{}", "answers, but not as .* HTTP 403"), ("wss://{}/ws", "answers, but not as .*SSL")]
)
def test_a_server_that_answers_wrongly_is_not_reported_as_not_running(
    serve: Callable[..., Server], wrong: str, told: str
) -> None:
    with pytest.raises(AvsrError, match=told):
        asyncio.run(Client(wrong.format(serve().address), print).send([], Config()))


def test_an_error_of_the_listener_is_not_taken_for_a_lost_connection(serve: Callable[..., Server]) -> None:
    server, told = serve(), []

    def fail(event: AnyEvent) -> None:
        told.append(event)
        if isinstance(event, CaptionEvent):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        asyncio.run(Client(server.url, fail).send(packets_of(sound(3.0), []), Config()))
    assert [event.type for event in told].count("ready") == 1, "it does not connect again"
