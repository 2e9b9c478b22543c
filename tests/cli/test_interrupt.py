"""Ctrl-C, SIGTERM and SIGHUP take effect wherever the work waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from avsr.cli.interrupt import handle_stop_signals, interruptible, until_interrupted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals work otherwise there")

ENGINE = """
import sys, types, avsr.cli, avsr.types
from avsr.media import open_media
said = avsr.types.Caption(0, 0, True, (avsr.types.Word('bin', 0.0, 1.0, 1.0),), 3, 0.0, 1.0, 0.5, 1.0)
def transcribe(source, *, on_caption, **options):
    on_caption(said)
    with open_media(source):  # waits in FFmpeg
        raise AssertionError('nothing was to come')
config = types.SimpleNamespace(name='tiny', version='0')
recognizer = types.SimpleNamespace(transcribe=transcribe, bundle=types.SimpleNamespace(config=config))
engine = types.ModuleType('avsr.recognizer')
engine.load_model = lambda *_, **__: recognizer
sys.modules['avsr.recognizer'] = engine
avsr.cli.main()
"""


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("fifo", (signal.SIGINT,)),
        ("pipe", (signal.SIGTERM, signal.SIGTERM)),
        ("pipe", (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)),
    ],
)
def test_a_source_that_stalls_is_ended_and_what_was_final_kept(
    kind: str, numbers: tuple[int, ...], tmp_path: Path
) -> None:
    source = "-"
    if kind == "fifo":
        source = str(tmp_path / "stdin")
        os.mkfifo(source)
    command = [sys.executable, "-c", ENGINE, "transcribe", source, "-o", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"bin\n"
        time.sleep(0.5)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)
        assert process.wait(60) == 128 + numbers[0]
        told = process.stderr.read()
    assert (tmp_path / "stdin.txt").read_text() == "bin\n"
    assert b"interrupted at 0.0 s" in told
    assert b"Traceback" not in told


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    command = ["nohup", sys.executable, "-c", ENGINE, "transcribe", "-", "-o", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"bin\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_the_work_is_asked_to_stop_once_by_signals_that_come_in_pairs() -> None:
    asked: list[int] = []
    before = signal.getsignal(signal.SIGHUP)
    with handle_stop_signals():
        with until_interrupted(lambda: asked.append(1)):
            for number in (signal.SIGHUP, signal.SIGTERM):
                signal.raise_signal(number)
        signal.raise_signal(signal.SIGHUP)
    assert asked == [1]
    assert signal.getsignal(signal.SIGHUP) is before


def test_ctrl_c_lets_the_work_end_first() -> None:
    stopping, has_ended = threading.Event(), threading.Event()

    def work() -> None:
        stopping.wait(60)
        has_ended.set()

    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        interruptible(work, stopping.set)
    assert has_ended.is_set()


def test_what_the_work_returns_or_raises_is_passed_on() -> None:
    assert interruptible(lambda: 3, lambda: None) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, lambda: None)
