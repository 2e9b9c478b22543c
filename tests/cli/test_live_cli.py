"""`avsr live` and `avsr devices`, with devices that are played and a tiny engine."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from stand_ins import LampFace, pictures, sound, tiny_recognizer

from avsr import cli, recognizer
from avsr.cli.screen import PlainScreen
from avsr.errors import DeviceError
from avsr.live import recorder
from avsr.live.captioner import LiveCaptioner
from avsr.live.events import Done, Event
from avsr.media import camera, microphone
from avsr.media.camera import CameraInfo
from avsr.media.capture import Picture, Sound
from avsr.media.microphone import MicrophoneInfo
from avsr.types import Caption, Word

PLAYED_S = 2.5


class PlayedMicrophone:
    """Plays sound in real time; at its end Ctrl-C is pressed, or another signal comes."""

    name = "played"
    signal_at_end = signal.SIGINT

    def __init__(self) -> None:
        self._samples = (sound(PLAYED_S) * 32768).astype(np.int16)
        self._begun_s = time.monotonic()
        self._place = 0

    def read(self) -> Sound:
        if self._place >= len(self._samples):
            os.kill(os.getpid(), self.signal_at_end)
            time.sleep(0.5)
            raise DeviceError("played to its end")
        start, self._place = self._place, self._place + 320
        time.sleep(max(0.0, self._begun_s + self._place / 16_000 - time.monotonic()))
        return Sound(self._samples[start : self._place], 16_000, start / 16_000, self._begun_s + start / 16_000)

    def close(self) -> None:
        pass


class PlayedCamera:
    """Shows pictures in real time."""

    name = "lamp"

    def __init__(self) -> None:
        self._frames = iter(pictures(PLAYED_S + 1))
        self._begun_s = time.monotonic()

    def read(self) -> Picture:
        frame = next(self._frames, None)
        if frame is None:
            raise DeviceError("the lamp is out")
        time.sleep(max(0.0, self._begun_s + frame.pts_us / 1e6 - time.monotonic()))
        return Picture(frame.rgb, self._begun_s + frame.pts_us / 1e6)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> recognizer.Recognizer:
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, engine: recognizer.Recognizer) -> None:
    """A tiny engine, a played microphone and a played camera."""
    monkeypatch.setattr(recognizer, "FaceMesh", LampFace)
    monkeypatch.setattr(recognizer, "load_model", lambda model, **options: engine)
    monkeypatch.setattr(microphone, "open_microphone", lambda spec: PlayedMicrophone())
    monkeypatch.setattr(camera, "open_camera", lambda spec: PlayedCamera())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["avsr", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.usefixtures("devices")
def test_a_full_disk_is_reported_at_once_and_captions_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "_Tracks", refuse)
    assert run(monkeypatch, "live", "--jsonl", "--record", str(tmp_path / "talk.mp4")) == 2
    output, errors = capsys.readouterr()
    assert "the recording broke off: [Errno 28] No space left on device" in errors
    events = [json.loads(line) for line in output.splitlines()]
    notices = [index for index, event in enumerate(events) if "No space left" in event.get("message", "")]
    assert len(notices) == 1
    assert any(event["type"] == "final" for event in events[notices[0] :])


@pytest.mark.usefixtures("devices")
def test_a_session_prints_saves_and_records(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = {"--save": "talk.json", "--record": "talk.mp4", "--text-file": "lines.txt"}
    options = [text for option, name in files.items() for text in (option, str(tmp_path / name))]
    assert run(monkeypatch, "live", "--jsonl", *options) == 0
    output, errors = capsys.readouterr()
    events = [json.loads(line) for line in output.splitlines()]
    assert {"partial", "final", "status"} <= {event["type"] for event in events}
    assert (events[0]["type"], events[0]["model"], events[0]["modality"]) == ("ready", "tiny", "av")
    assert events[-1]["type"] == "done"
    assert PLAYED_S - 1 < events[-1]["duration"] < PLAYED_S + 1
    assert {event["device"] for event in events if event["type"] == "status"} == {"microphone", "camera"}
    finals = [event["text"] for event in events if event["type"] == "final" and event["text"]]
    assert finals
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [segment["text"] for segment in saved["segments"]] == finals
    assert saved["modality"] == "av"
    assert (tmp_path / "talk.mp4").stat().st_size > 1000
    assert (tmp_path / "lines.txt").read_text().splitlines() == finals[-2:]
    assert "processing per chunk" in errors


@pytest.mark.usefixtures("devices")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")
def test_a_terminal_that_is_closed_ends_a_session_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(PlayedMicrophone, "signal_at_end", signal.SIGHUP)
    files = ["--save", str(tmp_path / "talk.txt"), "--record", str(tmp_path / "talk.mp4")]
    assert run(monkeypatch, "live", "--quiet", *files) == 0
    assert (tmp_path / "talk.txt").read_text()
    assert (tmp_path / "talk.mp4").stat().st_size > 1000


@pytest.mark.usefixtures("devices")
def test_plain_output_is_the_finals_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "live", "--quiet", "--camera", "none") == 0
    output, errors = capsys.readouterr()
    assert output.strip()
    assert not output.startswith("{")
    assert errors == ""


class Disk(io.StringIO):
    """What is written is there when it is flushed, if there is room."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.is_full = "", False

    def flush(self) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.kept = self.getvalue()


def test_a_full_standard_output_ends_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", disk := Disk())
    screen = PlainScreen(cast(LiveCaptioner, None), pytest.fail, jsonl=False, quiet=True)
    for segment, text in enumerate(("bin", "blue", "now")):
        disk.is_full = segment == 1
        screen.take(Caption(segment, 0, True, (Word(text, 0.0, 1.0, 0.9),), len(text), 0.0, 1.0, 0.5, 1.0))
        assert (screen.problem is not None) == disk.is_full
    screen.close()
    assert disk.kept == "bin\nblue\nnow\n"


def run_unread(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line with a pipe for standard output whose reader has gone; return its exit code."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        return run(monkeypatch, *arguments)


@pytest.mark.usefixtures("devices")
def test_files_go_on_when_nobody_reads_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save, record = tmp_path / "talk.json", tmp_path / "talk.mp4"
    assert run_unread(monkeypatch, "live", "--save", str(save), "--record", str(record)) == 0
    assert json.loads(save.read_text())["segments"][-1]["end"] > PLAYED_S - 1
    with av.open(str(record)) as recorded:
        assert (recorded.duration or 0) / 1e6 > PLAYED_S - 1
    assert capsys.readouterr().err.count("standard output was closed") == 1


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("option", ["--jsonl", "--quiet"])
def test_a_session_that_nobody_reads_ends_in_order(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    told: list[Event] = []
    finish = LiveCaptioner.finish
    monkeypatch.setattr(LiveCaptioner, "finish", lambda self: told.extend(finish(self)) or [])
    monkeypatch.setitem(globals(), "PLAYED_S", 10.0)
    assert run_unread(monkeypatch, "live", option) == 0
    assert isinstance(told[-1], Done)
    assert told[-1].duration_s < PLAYED_S - 1


@pytest.mark.usefixtures("devices")
def test_a_terminal_shows_the_senses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(monkeypatch, "live") == 0
    output, _ = capsys.readouterr()
    for part in ("mic ", "camera ", "lips ", "live", " ms", "█", "\x1b["):
        assert part in output


@pytest.mark.usefixtures("devices")
def test_no_device_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(spec: str | None) -> None:
        raise DeviceError("nothing is plugged in")

    monkeypatch.setattr(microphone, "open_microphone", refuse)
    monkeypatch.setattr(camera, "open_camera", refuse)
    assert run(monkeypatch, "live") == 2
    assert "nothing is plugged in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--camera", "none", "--mic", "none"], "no microphone or camera"),
        (["--modality", "video", "--camera", "none"], "no microphone or camera"),
        (["--av-offset-ms", "soon"], "--av-offset-ms"),
        (["--av-offset-ms", "nan"], "--av-offset-ms"),
        (["--record", "talk.doc"], "talk.doc"),
        (["--save", "talk.txt", "--text-file", "./talk.txt"], "give each a different one"),
        (["--save", "talk.mp4", "--record", str(Path.cwd() / "talk.mp4")], "give each a different one"),
    ],
)
def test_wrong_use_is_said_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(monkeypatch, "live", *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("devices")
def test_devices_are_listed_and_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    desk = MicrophoneInfo(1, "Desk", "ALSA", 2, 48_000, True)
    monkeypatch.setattr(microphone, "list_microphones", lambda: (desk,))
    monkeypatch.setattr(camera, "list_cameras", lambda: (CameraInfo(0, "Lid"),))
    monkeypatch.setattr("avsr.cli.devices.TEST_S", 0.4)
    monkeypatch.setattr("avsr.cli.devices.WARM_UP_S", 0.2)
    assert run(monkeypatch, "devices", "--test") == 0
    output = capsys.readouterr().out
    assert "1  Desk  (2 channels, 48000 Hz, ALSA, default)" in output
    assert " dB" in output
    assert "0  Lid" in output
    assert "88x72" in output
    assert "▀▀▀" in output
