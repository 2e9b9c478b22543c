"""`avsr serve` and `avsr send` as programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.server import serve as serve_websocket

import avsr
from avsr import cli, recognizer
from avsr.captions.files import render
from avsr.cli.serve import check_certificate, checked_origin, exposure, listen
from avsr.errors import ConfigError, DeviceError
from avsr.recognizer import Recognizer

CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"


def avsr_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["avsr", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


LOOK_FIRST = """
import avsr.cli, avsr.cli.serve
def listen(*address, real=avsr.cli.serve.listen):  # the model comes next: all else is imported
    import numpy
    from avsr.serve.pictures import decode_picture, encode_png
    from avsr.serve.protocol import ProtocolError
    for side in (1280, 1290):
        try:
            print(decode_picture(encode_png(numpy.zeros((side, side, 3), numpy.uint8))).shape, flush=True)
        except ProtocolError as error:
            print(error.code, flush=True)
    return real(*address)
avsr.cli.serve.listen = listen
avsr.cli.main()
"""


@pytest.fixture(scope="module")
def server(engine: Recognizer) -> Iterator[tuple[str, list[str]]]:
    """A server as a process: its address, and what it tells of two pictures; it must end when it is told to."""
    arguments = ["serve", "--port", "0", "--model", str(engine.bundle.path), "--max-speed", "100"]
    command = [sys.executable, "-c", LOOK_FIRST, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    told = [process.stdout.readline().strip() for _ in range(2)]
    line = process.stderr.readline()
    assert "captions at http://127.0.0.1:" in line
    yield line.split("captions at ")[1].split("/  ")[0].replace("http", "ws") + "/ws", told
    process.send_signal(signal.SIGINT)
    log = [json.loads(line) for line in process.stderr]
    assert process.wait(30) in (0, 130, -signal.SIGINT)
    assert [entry["event"] for entry in log] == ["session_opened", "session_closed"] * (len(log) // 2)


@pytest.mark.parametrize("modality", ["av", "audio"])
def test_a_file_sent_through_a_server_gives_the_captions_of_transcribe(
    server: tuple[str, list[str]],
    engine: Recognizer,
    modality: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["send", str(CLIP), "--url", server[0], "--modality", modality, "--format", "json"]
    assert avsr_main(monkeypatch, *arguments) == 0
    sent = capsys.readouterr().out
    transcript = engine.transcribe(CLIP, modality=modality)  # type: ignore[arg-type]
    expected = json.loads(render(transcript, "json"))
    assert expected["text"]
    assert json.loads(sent) == {**expected, "rtf": None}


def test_what_listening_beyond_this_machine_exposes_is_said() -> None:
    assert "anyone who can reach this machine" in exposure("0.0.0.0", has_token=False, has_tls=False)
    assert "without a token" in exposure("0.0.0.0", has_token=False, has_tls=True)
    assert "unencrypted" in exposure("10.0.0.2", has_token=True, has_tls=False)
    assert "unencrypted" not in exposure("10.0.0.2", has_token=True, has_tls=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--certificate", "x.pem"], "belong together"),
        (["serve", "--certificate", "x.pem", "--key", "y.pem"], "cannot be used for TLS: No such file"),
        (["serve", "--token", ""], "everybody"),
        (["serve", "--host", ""], "everywhere"),
        (["serve", "--host", "\N{LATIN SMALL LETTER A WITH DIAERESIS}..b", "--port", "0"], "cannot listen on"),
        (["serve", "--max-speed", "inf"], "from 1 to 1000"),
        (["serve", "--max-speed", "nan"], "from 1 to 1000"),
        (["serve", "--allow-origin", "https://a.example", "--allow-origin", "*"], "--allow-origin '*'"),
        (["send", str(CLIP), "--token", 1001 * "x"], "--token: string should have at most 1000 characters"),
        (["send", str(CLIP), "--url", "ws://a..b/ws"], "a..b"),
        (["send", str(CLIP), "--url", "http://127.0.0.1:9"], "ws://127.0.0.1:8765/ws"),
        (["send", str(CLIP), "--url", "ws://127.0.0.1:99999/ws"], "not a websocket address"),
    ],
)
def test_wrong_use_is_one_line_on_stderr(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr_main(monkeypatch, *arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_port_that_is_taken_is_reported_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(recognizer, "load_model", load)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert avsr_main(monkeypatch, "serve", "--port", str(port)) == 2
    told = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in told
    assert told.count("\n") == 1


def test_a_host_that_cannot_exist_is_reported() -> None:
    for host in ("a..b", "é..b"):
        with pytest.raises(DeviceError, match="cannot listen on"):
            listen(host, 0)


def test_a_port_is_free_again_as_soon_as_a_server_with_clients_has_gone() -> None:
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address):
            listener.accept()[0].close()
    listen(*address).close()


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.org/", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://example.org:80", "https://example.org:80"),
        ("moz-extension://0a1b-2c", "moz-extension://0a1b-2c"),
    ],
)
def test_an_origin_is_what_browsers_send(text: str, origin: str) -> None:
    assert checked_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "*", "null", "example.org", "https://", "https://a.example/page", "https://a@b.example", "https://a:99999"],
)
def test_an_origin_that_never_matches_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not the origin of a web page"):
        checked_origin(text)


def test_a_server_decodes_no_large_picture_even_if_it_is_told_to(server: tuple[str, list[str]]) -> None:
    _, told = server
    assert told == ["(1280, 1280, 3)", "bad_media"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates with their keys, one of which asks for a password, and what is none."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    directory, curve = tmp_path_factory.mktemp("keys"), ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
    for name, protection in (("one", ["-nodes"]), ("two", ["-nodes"]), ("locked", ["-passout", "pass:secret"])):
        files = ["-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.pem"]
        request = [openssl, "req", "-x509", "-newkey", "ec", *curve, "-subj", "/CN=localhost", *files, *protection]
        subprocess.run(request, check=True, timeout=60)
    (directory / "text.pem").write_text("no certificate")
    return directory


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("text.pem", "one.key", "PEM"),
        ("one.pem", "text.pem", "PEM"),
        ("one.pem", "two.key", "PEM"),
        ("locked.pem", "locked.key", "password"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_reported_before_the_model_is_loaded(
    certificate: str,
    key: str,
    said: str,
    keys: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(recognizer, "load_model", load)
    files = ["--certificate", str(keys / certificate), "--key", str(keys / key)]
    assert avsr_main(monkeypatch, "serve", "--port", "0", *files) == 2
    told = capsys.readouterr().err
    assert str(keys / key) in told
    assert said in told
    assert told.count("\n") == 1


def test_a_certificate_and_its_key_are_taken(keys: Path) -> None:
    check_certificate(keys / "one.pem", keys / "one.key")


def test_a_certificate_that_is_not_trusted_is_reported_as_such(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain(keys / "one.pem", keys / "one.key")
    with serve_websocket(lambda _: None, "127.0.0.1", 0, ssl=identity) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"wss://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        assert avsr_main(monkeypatch, "send", str(CLIP), "--url", url) == 2
    assert f"the certificate of {url} is not trusted: self-signed certificate; " in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process work otherwise there")
def test_ctrl_c_ends_a_pipe_that_never_ends_with_the_captions_so_far(
    server: tuple[str, list[str]], tmp_path: Path
) -> None:
    clip = tmp_path / "clip.ts"
    loop = ["ffmpeg", "-v", "error", "-stream_loop", "2", "-i", str(CLIP), "-vn", "-c:a", "mp2"]
    subprocess.run([*loop, str(clip)], check=True)
    arguments = ["send", "-", "--url", server[0], "--format", "jsonl", "--modality", "audio"]
    with subprocess.Popen(
        [sys.executable, "-m", "avsr", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(clip.read_bytes())
        process.stdin.flush()  # and never closed
        events = iter(json.loads(line) for line in process.stdout)
        assert next(event for event in events if event["type"] == "final")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = [event["type"] for event in events]  # up to its end
        assert process.wait(60) == 130
        assert rest[-1] == "done"
        assert "final" in rest
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process work otherwise there")
def test_ctrl_c_ends_a_pipe_that_never_says_anything() -> None:
    silent = "import sys, threading, os, signal; from avsr import cli; "
    press = "threading.Timer(4.0, os.kill, [os.getpid(), signal.SIGINT]).start(); "
    run = "sys.argv[1:] = ['send', '-']; cli.main()"
    with subprocess.Popen(
        [sys.executable, "-c", silent + press + run], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.wait(90) == 130
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")
def test_a_server_whose_terminal_is_closed_ends_in_order(
    engine: Recognizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signals = ((0.5, signal.SIGHUP), (20.0, signal.SIGINT))  # the second ends a server that does not hear the first
    timers = [threading.Timer(delay_s, os.kill, [os.getpid(), number]) for delay_s, number in signals]
    told: list[str] = []

    def hang_up(text: str) -> None:
        told.append(text)
        for timer in timers:
            timer.start()

    monkeypatch.setattr("avsr.cli.serve.note", hang_up)
    before = signal.signal(signal.SIGHUP, lambda *_: None)  # else it would end all tests where the server hears none
    try:
        assert avsr_main(monkeypatch, "serve", "--port", "0", "--model", str(engine.bundle.path)) == 0
    finally:
        _, last_resort = timers
        was_heard = last_resort.is_alive()
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGHUP, before)
    assert was_heard
    assert capsys.readouterr().err == ""
    (line,) = told
    assert "captions at" in line
