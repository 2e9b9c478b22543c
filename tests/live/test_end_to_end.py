"""`avsr live` as people run it: a real microphone stack, a real network camera, the default model, a real talking face.

A PulseAudio server of the test's own plays a clip of the GRID corpus into a null sink, whose monitor is the microphone
that ALSA, and so PortAudio, finds; ffmpeg sends the pictures of the same clip as MPEG-TS.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import avsr
from avsr.evaluate.wer import word_errors

PROGRAMS = {"pulseaudio": "pulseaudio", "paplay": "pulseaudio-utils", "pactl": "pulseaudio-utils", "ffmpeg": "ffmpeg"}
ALSA_CONFIG = """
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse device room.monitor }
ctl.!default { type pulse }
"""
NUM_PLAYS = 3
"""The clip is played so often; the camera is still being opened the first time."""
TIMEOUT_S = 240

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def clip(shared_data: Path) -> tuple[Path, str]:
    """A clip of the test split, and what the model makes of it from the file."""
    with (shared_data / "grid.tsv").open(encoding="utf-8", newline="") as table:
        rows = [row for row in csv.DictReader(table, delimiter="\t") if row["split"] == "test"]
    model = avsr.load_model(threads=1)
    for row in rows[:8]:
        text = model.transcribe(shared_data / row["path"]).text
        if text == row["text"]:
            return shared_data / row["path"], text
    pytest.fail("the default model reads none of the first clips right")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of programs that play and hear in a room of their own."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        missing.add("libasound2-plugins")
    if missing:
        pytest.skip(f"no sound system to play in; on Debian: apt-get install {' '.join(sorted(missing))}")
    folder = tmp_path_factory.mktemp("room")
    (folder / "asound.conf").write_text(ALSA_CONFIG)
    place = f"unix:{folder}/native"
    env = {
        **os.environ,
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_SERVER": place,
        "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
    }
    options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--log-target=null"]
    modules = [
        f"--load=module-native-protocol-unix auth-anonymous=1 socket={folder}/native",
        "--load=module-null-sink sink_name=room",
    ]
    with _running(["pulseaudio", *options, *modules], env):
        deadline_s = time.monotonic() + 30
        while subprocess.run(["pactl", "info"], env=env, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline_s, "PulseAudio does not answer"
            time.sleep(0.1)
        yield env


@contextmanager
def _running(command: list[str], env: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def captioning(env: dict[str, str], options: list[str], folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Run `avsr live --jsonl` until the end of the block, once a device is there; yield its events, which grow."""
    command = [sys.executable, "-m", "avsr", "live", "--jsonl", "--threads", "1", *options]
    events: list[dict[str, Any]] = []
    errors = folder / "errors.txt"
    with errors.open("w") as error_file, _running(command, env, stdout=subprocess.PIPE, stderr=error_file) as captions:
        assert captions.stdout is not None
        lines = captions.stdout
        reader = threading.Thread(target=lambda: events.extend(json.loads(line) for line in iter(lines.readline, "")))
        reader.start()
        wait_until(lambda: captions.poll() is not None or any(event.get("state") == "live" for event in events))
        yield events
        captions.send_signal(signal.SIGINT)
        assert captions.wait(TIMEOUT_S) == 0, errors.read_text()
        reader.join()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def live(env: dict[str, str], options: list[str], play: list[str], folder: Path) -> list[dict[str, Any]]:
    """Caption what ``play`` plays; return the events."""
    with captioning(env, options, folder) as events:
        with _running(play, env) as player:
            player.wait(TIMEOUT_S)
        time.sleep(2.0)
    return events


def num_right(events: list[dict[str, Any]], text: str) -> int:
    """How many finals are ``text`` within one word."""
    finals = [event["text"] for event in events if event["type"] == "final"]
    return sum(word_errors(text, final).total <= 1 for final in finals)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_real_microphone_stack_gives_the_captions_of_the_file_and_is_heard_again_after_it_was_pulled_out(
    room: dict[str, str], clip: tuple[Path, str], tmp_path: Path
) -> None:
    path, _ = clip
    model = avsr.load_model(threads=1)
    text = model.transcribe(path, modality="audio").text
    talk, record, save = (tmp_path / name for name in ("talk.wav", "heard.mp4", "heard.srt"))
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), "-vn", str(talk)], check=True)

    def play() -> None:
        subprocess.run(["paplay", "--device=room", str(talk)], env=room, check=True, timeout=TIMEOUT_S)

    def control(*arguments: str) -> None:
        subprocess.run(["pactl", *arguments], env=room, check=True, stdout=subprocess.DEVNULL)

    def states() -> list[str]:
        return [event["state"] for event in list(events) if event.get("device") == "microphone"]

    with captioning(room, ["--camera", "none", "--record", str(record), "--save", str(save)], tmp_path) as events:
        begun_s = time.monotonic()
        for _ in range(NUM_PLAYS):
            play()
        time.sleep(2.0)
        num_before = len(events)
        pulled_out_s = time.monotonic() - begun_s  # of the stream's time it is a little more
        control("unload-module", "module-null-sink")
        wait_until(lambda: "lost" in states())
        time.sleep(1.0)
        control("load-module", "module-null-sink", "sink_name=room")
        back_s = time.monotonic()
        wait_until(lambda: states()[-1] != "lost")
        took_s = time.monotonic() - back_s
        play()
        time.sleep(2.0)
    assert num_right(events[:num_before], text) >= NUM_PLAYS - 1
    assert took_s < 10  # on an idle machine, one
    again = [event for event in events if event["type"] == "final" and event["start"] > pulled_out_s]
    assert num_right(again, text) >= 1
    finals = [event["text"] for event in events if event["type"] == "final" and event["text"]]
    assert model.transcribe(record, modality="audio").text.splitlines() == finals
    assert all(final in save.read_text().replace("\n", " ") for final in finals)


def test_sound_and_pictures_of_a_real_face_live(room: dict[str, str], clip: tuple[Path, str], tmp_path: Path) -> None:
    path, text = clip
    url = f"http://127.0.0.1:{free_port()}/live"
    # One ffmpeg sends both, so that they belong together; it begins when the camera is opened.
    source = ["ffmpeg", "-v", "error", "-re", "-stream_loop", str(NUM_PLAYS - 1), "-i", str(path)]
    pictures = ["-map", "0:v", "-c:v", "mpeg2video", "-q:v", "2", "-g", "5", "-f", "mpegts", "-listen", "1", url]
    sounds = ["-map", "0:a", "-ar", "44100", "-ac", "1", "-f", "pulse", "-device", "room", "talk"]
    lines, record = tmp_path / "lines.txt", tmp_path / "both.mp4"
    options = ["--camera", url, "--text-file", str(lines), "--record", str(record)]
    events = live(room, options, [*source, *pictures, *sounds], tmp_path)
    assert num_right(events, text) >= NUM_PLAYS - 2
    recorded = avsr.load_model(threads=1).transcribe(record).segments
    assert sum(word_errors(text, final.text).total <= 1 for final in recorded) >= NUM_PLAYS - 2
    assert {"type": "status", "device": "camera", "state": "live"}.items() <= next(
        event for event in events if event.get("device") == "camera" and event["state"] == "live"
    ).items()
    assert any(event["av"]["face_visible"] > 0.5 for event in events if event["type"] == "final")
    assert len(lines.read_text().splitlines()) == 2
