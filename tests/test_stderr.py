"""What libraries write to standard error is muted, for as long as any thread asks for it, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from avsr.media import microphone
from avsr.stderr import silent_stderr


def test_python_messages_get_through_while_libraries_are_muted() -> None:
    """Of a server, say, that writes its log while a client's tracker opens in another thread."""
    program = (
        "import os, sys\n"
        "from avsr.stderr import silent_stderr\n"
        "def say(when): print('said', when, file=sys.stderr); os.write(2, f'written {when}\\n'.encode())\n"
        "for time in range(2):\n"
        "    say('before')\n"
        "    with silent_stderr: say('inside'); kept = sys.stderr\n"
        "    assert sys.stderr is sys.__stderr__\n"
        "print('said late', file=kept)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    once = ["said before", "written before", "said inside"]
    assert (ended.returncode, ended.stderr.splitlines()) == (0, [*once, *once, "said late"])


def test_a_process_without_standard_error_has_nothing_to_mute() -> None:
    program = (
        "import os\n"
        "from avsr.stderr import silent_stderr\n"
        "os.close(2)\n"
        "for time in range(2):\n"
        "    with silent_stderr: print('inside')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout.split()) == (0, ["inside"] * 2)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads where a descriptor leads")
def test_threads_that_open_at_once_leave_stderr_where_it_was() -> None:
    both_in, first_out = threading.Barrier(2, timeout=20), threading.Event()
    before = str(Path("/proc/self/fd/2").readlink())
    inside: list[str] = []

    def first() -> None:
        with silent_stderr:
            both_in.wait()
        first_out.set()

    def last() -> None:
        with silent_stderr:
            both_in.wait()
            first_out.wait(20)
            inside.append(str(Path("/proc/self/fd/2").readlink()))

    threads = [threading.Thread(target=work) for work in (first, last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert inside == [os.devnull]
    assert str(Path("/proc/self/fd/2").readlink()) == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads where a descriptor leads")
def test_a_microphone_that_is_looked_for_while_a_tracker_opens_leaves_stderr_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_muting, tracker_opens = threading.Event(), threading.Event()

    def initialize() -> None:
        """Do as sounddevice does."""
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        is_muting.set()
        assert tracker_opens.wait(20)
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)

    fake = SimpleNamespace(_terminate=lambda: None, _initialize=initialize, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    before = str(Path("/proc/self/fd/2").readlink())
    looking = threading.Thread(target=microphone._portaudio)
    looking.start()
    assert is_muting.wait(20)
    with silent_stderr:
        tracker_opens.set()
        looking.join(20)
    assert str(Path("/proc/self/fd/2").readlink()) == before
