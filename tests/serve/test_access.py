"""Who may connect, and what the server tells besides captions: health, metrics, the log, the page."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import time
from collections.abc import Callable

import httpx
import pytest
from serving import CONFIG, Server, hear, hear_all, refusal, run_client, say
from stand_ins import Heard, Packet
from websockets.exceptions import InvalidStatus

from avsr.errors import AvsrError
from avsr.serve.app import is_trusted
from avsr.serve.logs import log
from avsr.serve.protocol import Config

Serve = Callable[..., Server]
WEB = httpx.Client()
"""One for all: to make one reads every certificate of the system."""


def test_only_its_own_page_and_listed_pages_may_connect(serve: Serve) -> None:
    server = serve(allowed_origins=("https://captions.example",))
    port = server.address.split(":")[1]
    for origin in (f"http://127.0.0.1:{port}", "https://captions.example", None):
        with server.talk(origin=origin) as client:
            say(client, type="config")
            assert hear(client)["type"] == "ready"
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{int(port) + 1}"):
        with pytest.raises(InvalidStatus) as caught, server.talk(origin=origin):
            pass
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("origin", "host", "is_ours"),
    [
        ("http://localhost:8765", "localhost:8765", True),
        ("https://192.168.1.5:8765", "192.168.1.5:8765", True),
        ("http://[::1]:8765", "[::1]:8765", True),
        ("http://evil.example:8765", "evil.example:8765", False),  # a name that leads here: DNS rebinding
        ("http://localhost:8765", "127.0.0.1:8765", False),
        ("http://localhost.evil.example:8765", "localhost.evil.example:8765", False),
        ("file://127.0.0.1", "127.0.0.1", False),
        ("http://[", "[", False),
        ("", "", False),
    ],
)
def test_a_page_is_trusted_by_its_origin(origin: str, host: str, is_ours: bool) -> None:
    assert is_trusted(origin, host, ()) == is_ours


def test_the_token_is_asked_for(serve: Serve, clip: list[Packet]) -> None:
    server = serve(token="sesame")
    assert refusal(server, CONFIG)[0] == "unauthorised"
    assert refusal(server, json.dumps({"type": "config", "token": "sesam"}))[0] == "unauthorised"
    assert run_client(server, clip[:20], Config(token="sesame"))
    with pytest.raises(AvsrError, match="token"):
        run_client(server, clip[:20])
    assert WEB.get(f"{server.http}/metrics").status_code == 401
    knowing = {"Authorization": "Bearer sesame"}
    assert WEB.get(f"{server.http}/metrics", headers=knowing).status_code == 200
    for headers in ({}, {"Authorization": "Bearer sesam"}):
        assert WEB.get(f"{server.http}/healthz", headers=headers).json() == {"status": "ok"}
    assert WEB.get(f"{server.http}/healthz", headers=knowing).json()["max_sessions"] == 4


def test_health_and_metrics_are_served_and_hold_no_text(
    serve: Serve, clip: list[Packet], expected: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    run_client(server, clip)
    assert WEB.get(f"{server.http}/healthz").json() == {"status": "ok", "sessions": 0, "max_sessions": 4}
    metrics = WEB.get(f"{server.http}/metrics").text
    assert f"avsr_finals_total {len(expected.finals)}\n" in metrics
    assert "avsr_audio_seconds_total 3\n" in metrics
    told = metrics + "".join(capsys.readouterr())
    assert '"event": "session_opened"' in told
    assert not any(f" {word.text} " in told or f'"{word.text}"' in told for word in expected.finals[0].words)


def test_the_log_has_text_where_asked_for(
    serve: Serve, clip: list[Packet], expected: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    run_client(serve(logs_text=True), clip)
    assert expected.finals[0].text in capsys.readouterr().err


def test_the_page_is_served_with_its_security_headers(serve: Serve) -> None:
    server = serve()
    page = WEB.get(f"{server.http}/")
    assert "<h1>Live captions</h1>" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    for name in (
        "main.js",
        "capture.js",
        "connection.js",
        "captions.js",
        "formats.js",
        "clock.js",
        "pcm-worklet.js",
        "style.css",
    ):
        assert WEB.get(f"{server.http}/{name}").status_code == 200
    assert "javascript" in WEB.get(f"{server.http}/main.js").headers["content-type"]
    assert WEB.get(f"{server.http}/../app.py").status_code == 404
    assert WEB.get(f"{server.http}/%2e%2e/app.py").status_code == 404


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /"]
)
def test_a_client_that_takes_long_over_a_request_is_disconnected(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("avsr.serve.transport.REQUEST_S", 0.5)
    server = serve()
    with server.talk() as client, socket.create_connection(server.address.split(":"), timeout=20) as slow:
        say(client, type="config")
        assert hear(client)["type"] == "ready"
        slow.sendall(said)
        with contextlib.suppress(ConnectionResetError):
            while slow.recv(65536):  # the answer to a whole request, then the end
                pass
        time.sleep(0.6)
        say(client, type="end")  # a websocket stays
        assert hear(client, "done")


def test_a_log_that_cannot_be_written_stops_no_stream(
    serve: Serve, clip: list[Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    server = serve(logs_text=True)
    monkeypatch.setattr(sys, "stderr", Full())
    assert run_client(server, clip[:120])[-1].type == "done"
    with contextlib.closing(io.StringIO()) as closed:
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    log("final")
    deadline_s = time.monotonic() + 20
    while server.service.num_sessions and time.monotonic() < deadline_s:  # `done` is told before the seat is free
        time.sleep(0.01)
    assert server.service.num_sessions == 0


def test_a_client_that_pings_and_reads_no_answers_is_disconnected(serve: Serve) -> None:
    server = serve()
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that little is on its way
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", int(server.address.split(":")[1])))
        lines = ["GET /ws HTTP/1.1", f"Host: {server.address}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
        client.sendall("\r\n".join(lines).encode())
        assert client.recv(12) == b"HTTP/1.1 101"
        ping = b"\x89\xfd" + bytes(4) + bytes(125)
        with pytest.raises(ConnectionError):
            for _ in range(100):
                client.sendall(500 * ping)


@pytest.mark.parametrize("before", [[], [CONFIG]])
def test_text_that_is_not_utf_8_is_refused_without_a_traceback(
    serve: Serve, before: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with serve().talk() as client:
        for message in before:
            client.send(message)
        client.send([b'{"type": "', b"\xff", b'"}'], text=True)
        assert hear_all(client)[-1]["code"] == "bad_message"
    assert client.close_code == 1007
    assert not caplog.records
