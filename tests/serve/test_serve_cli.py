"""`avsr serve` and `avsr send` as programs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import avsr
from avsr.captions.files import render
from avsr.cli.serve import exposure
from avsr.recognizer import Recognizer

CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "avsr", *arguments]


@pytest.fixture(scope="module")
def server_url(engine: Recognizer) -> Iterator[str]:
    """A server as a process; it must end by itself when it is told to."""
    arguments = ["serve", "--port", "0", "--model", str(engine.bundle.path), "--max-speed", "100"]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "captions at http://127.0.0.1:" in line
    yield line.split("captions at ")[1].split("/  ")[0].replace("http", "ws") + "/ws"
    process.send_signal(signal.SIGINT)
    log = [json.loads(line) for line in process.stderr if line.startswith("{")]
    assert process.wait(30) in (0, 130, -signal.SIGINT)
    assert [entry["event"] for entry in log] == ["session_opened", "session_closed"] * 2


@pytest.mark.parametrize("modality", ["av", "audio"])
def test_a_file_sent_through_a_server_gives_the_captions_of_transcribe(
    server_url: str, engine: Recognizer, modality: str
) -> None:
    arguments = ["send", str(CLIP), "--url", server_url, "--modality", modality, "--format", "json"]
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    transcript = engine.transcribe(CLIP, modality=modality)  # type: ignore[arg-type]
    expected = json.loads(render(transcript, "json"))
    assert expected["text"]
    assert json.loads(done.stdout) == {**expected, "rtf": None}


def test_what_listening_beyond_this_machine_exposes_is_said() -> None:
    assert "anyone who can reach this machine" in exposure("0.0.0.0", has_token=False, has_tls=False)
    assert "without a token" in exposure("0.0.0.0", has_token=False, has_tls=True)
    assert "unencrypted" in exposure("10.0.0.2", has_token=True, has_tls=False)
    assert "unencrypted" not in exposure("10.0.0.2", has_token=True, has_tls=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--certificate", "x.pem"], "belong together"),
        (["serve", "--certificate", "x.pem", "--key", "y.pem"], "no such file"),
        (["serve", "--token", ""], "everybody"),
        (["send", str(CLIP), "--url", "http://127.0.0.1:9"], "avsr serve"),
        (["send", str(CLIP), "--url", "ws://127.0.0.1:99999/ws"], "no address"),
    ],
)
def test_wrong_use_is_one_line_on_stderr(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from avsr import cli

    monkeypatch.setattr(sys, "argv", ["avsr", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
