"""Files that follow a session are whole at any moment, whatever happens to the process."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import full_disk

from avsr.errors import InputError
from avsr.live import writers
from avsr.live.events import Done, Ready, Status, as_json
from avsr.live.writers import CaptionFile, LineFile
from avsr.types import Caption, Transcript, Word

ABOUT = Transcript((), 0.0, "tiny", "0", "av", source="live")


def caption(segment: int, text: str, is_final: bool = True) -> Caption:
    start_s = 2.0 * segment
    words = tuple(Word(word, start_s + 0.2 * i, start_s + 0.2 * i + 0.1, 0.9) for i, word in enumerate(text.split()))
    return Caption(segment, 0, is_final, words, len(text), start_s, start_s + 1, 0.4, 1.0, 81.25)


@pytest.mark.parametrize("suffix", ["srt", "vtt", "json", "txt"])
def test_captions_grow_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"talk.{suffix}"
    file = CaptionFile(path, ABOUT)
    assert path.exists()
    file.take(caption(0, "bin blue"))
    file.take(caption(1, "not yet", is_final=False))
    deadline_s = time.monotonic() + 60
    while "bin blue" not in path.read_text() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    file.take(caption(1, "set white"))
    file.close()
    text = path.read_text()
    assert text.index("bin blue") < text.index("set white")
    assert "not yet" not in text
    if suffix == "json":
        assert [segment["text"] for segment in json.loads(text)["segments"]] == ["bin blue", "set white"]


def test_the_last_two_lines_are_kept_for_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    file = LineFile(path)
    for segment, text, is_final in [(0, "one", True), (1, "two", True), (2, "th", False), (2, "three", False)]:
        file.take(caption(segment, text, is_final))
    file.close()
    assert path.read_text() == "two\nthree\n"


@pytest.mark.parametrize("earlier", [b"", b"one\ntwo\n", "ein süßer Satz".encode()])
def test_the_lines_of_the_last_session_are_written_over(tmp_path: Path, earlier: bytes) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(earlier)
    file = LineFile(path)
    assert path.read_bytes() == b""
    file.close()


@pytest.mark.parametrize(
    "content", [b"one\ntwo\nthree\n", b"\x89PNG\r\n\x1a\n\0", b"\xff\xfe", b"x" * 100_000, b"one\0two"]
)
def test_what_is_not_ours_is_never_written_over_by_lines(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="choose another name, or remove it"):
        LineFile(path)
    assert path.read_bytes() == content
    with pytest.raises(InputError, match="already"):
        LineFile(tmp_path)


def test_a_partial_that_came_to_nothing_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    file = LineFile(path)
    file.take(caption(0, "mm", is_final=False))
    file.take(caption(0, ""))
    file.close()
    assert path.read_text() == ""


def test_a_place_that_cannot_be_written_to_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        CaptionFile(tmp_path / "none" / "talk.srt", ABOUT)
    with pytest.raises(InputError, match=r"\.srt"):
        CaptionFile(tmp_path / "talk.doc", ABOUT)


def test_an_earlier_talk_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").write_text("words of yesterday")
    with pytest.raises(InputError, match="already"):
        CaptionFile(tmp_path / "talk.srt", ABOUT)
    assert (tmp_path / "talk.srt").read_text() == "words of yesterday"
    CaptionFile(tmp_path / "silence.json", ABOUT).close()
    assert not (tmp_path / "silence.json").exists()


def test_a_long_talk_takes_no_memory(tmp_path: Path) -> None:
    """Only what is settled lately is in memory; what was written before may even be moved away meanwhile."""
    path, sizes = tmp_path / "talk.srt", []
    file = CaptionFile(path, ABOUT)
    tracemalloc.start()
    for segment in range(300):
        file.take(caption(segment, "bin blue at f two now"))
        if segment % 75 == 74:
            wait_until(lambda count=segment: path.exists() and f"\n{count + 1}\n" in path.read_text())  # type: ignore[misc]
            path.replace(tmp_path / "moved.srt")
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 8_000  # as text, what came between is 14 kB
    file.take(caption(300, "set white"))
    file.close()
    text = path.read_text()
    assert text.count(" --> ") == text.count("bin blue at f two now") + 1 == 301


def test_what_another_program_does_to_the_file_costs_no_captions(tmp_path: Path) -> None:
    """An editor that saves in place shortens the very file that was written."""
    path = tmp_path / "talk.txt"
    file = CaptionFile(path, ABOUT)
    file.take(caption(0, "bin blue"))
    wait_until(lambda: path.read_text() == "bin blue\n")
    with path.open("w") as edited:
        edited.write("x")
    file.take(caption(1, "set white"))
    wait_until(lambda: path.read_text() == "bin blue\nset white\n")
    file.close()


def test_a_version_that_failed_is_not_told_twice(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    file = CaptionFile(path, ABOUT)
    file.take(caption(0, "bin blue"))
    wait_until(lambda: path.read_text() == "bin blue\n")
    with full_disk(12):
        file.take(caption(1, "set white at f"))
        wait_until(lambda: file.problem is not None)
    file.take(caption(2, "now"))
    file.close()
    assert path.read_text() == "bin blue\nset white at f\nnow\n"


def test_a_name_that_cannot_be_looked_for_is_refused(tmp_path: Path) -> None:
    for make in (lambda path: CaptionFile(path, ABOUT), LineFile):
        with pytest.raises(InputError, match=r"cannot be looked up: File name too long"):
            make(tmp_path / f"{300 * 'x'}.srt")


def test_what_waits_for_a_full_disk_is_written_later_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = tmp_path / "in" / "talk.txt", tmp_path / "in"
    folder.mkdir()
    file = CaptionFile(path, ABOUT)
    folder.rename(tmp_path / "out")
    file.take(caption(0, "bin blue"))
    time.sleep(0.1)
    (tmp_path / "out").rename(folder)
    file.take(caption(1, "set white"))
    wait_until(lambda: path.read_text() == "bin blue\nset white\n")
    monkeypatch.setattr(writers, "MAX_WAITING_CHARS", 5)
    file.take(caption(2, "much too long"))
    with pytest.raises(InputError, match="1 finals are missing"):
        file.close()


def test_a_disk_that_has_room_again_when_nothing_more_is_said_gets_it_all(tmp_path: Path) -> None:
    path, folder = tmp_path / "in" / "talk.txt", tmp_path / "in"
    folder.mkdir()
    file = CaptionFile(path, ABOUT)
    folder.rename(tmp_path / "out")
    file.take(caption(0, "bin blue"))
    wait_until(lambda: file._follower._error is not None)
    (tmp_path / "out").rename(folder)
    file.close()
    assert path.read_text() == "bin blue\n"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_full_disk_is_told_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    file = CaptionFile(folder / "talk.txt", ABOUT)
    (folder / "talk.txt").unlink()
    folder.rmdir()
    file.take(caption(0, "bin blue"))
    with pytest.raises(InputError, match="could not be written"):
        file.close()


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_writers import ABOUT, caption
from avsr.live.writers import CaptionFile
file = CaptionFile(Path(sys.argv[1]), ABOUT)
for segment in range(100_000):
    file.take(caption(segment, "bin blue at f two now"))
    if segment == 20:
        print("writing", flush=True)
"""


def test_what_was_saved_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    command = [sys.executable, "-c", WRITER, str(path), *map(str, Path(__file__).parents[:2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        deadline_s = time.monotonic() + 60
        while not json.loads(path.read_text())["segments"] and time.monotonic() < deadline_s:
            time.sleep(0.01)
        time.sleep(0.2)
        writer.send_signal(signal.SIGKILL)
    segments = json.loads(path.read_text())["segments"]
    assert segments
    assert all(segment["text"] == "bin blue at f two now" for segment in segments)


def test_events_are_plain_json() -> None:
    final = as_json(caption(3, "bin blue"), offset_ms=40.0)
    assert json.loads(json.dumps(final)) == final
    assert (final["type"], final["segment"], final["text"], final["latency_ms"]) == ("final", 3, "bin blue", 81.2)
    assert final["av"] == {"audio_weight": 0.4, "face_visible": 1.0, "offset_ms": 40.0}
    assert as_json(caption(3, "bin", is_final=False), 0.0)["type"] == "partial"
    assert as_json(Ready("default", "0.2", "av", 320), 0.0) == {
        "type": "ready",
        "model": "default",
        "version": "0.2",
        "modality": "av",
        "chunk_ms": 320,
    }
    assert as_json(Done(3.21, ("no face was seen",)), 0.0) == {
        "type": "done",
        "duration": 3.21,
        "notes": ["no face was seen"],
    }
    status = as_json(Status("camera", "lost", "unplugged", 1.23456), 0.0)
    assert status == {"type": "status", "device": "camera", "state": "lost", "message": "unplugged", "at": 1.235}
