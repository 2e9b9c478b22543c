"""Files that follow a live session: growing caption files, and the newest lines for programs that display them."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from avsr.captions.files import FORMATS
from avsr.captions.growing import open_growth
from avsr.disk import replacing
from avsr.errors import InputError
from avsr.live.events import Event
from avsr.types import Caption, Transcript

NUM_LINES = 2
"""Lines in a text file for other programs."""
MAX_LINES_BYTES = 16 * 1024
"""Largest size of such a file; a larger one is not ours, and is not overwritten."""
COPIED_BYTES = 2**20
"""Bytes copied at a time."""
REST = 4.0
"""After a version was written, the next one waits this many times as long as that took, so as not to load the disk."""
RETRY_S = 1.0
"""Pause before a version that could not be written is tried again."""
MAX_WAITING_CHARS = 2**20
"""Text that waits while the disk is full; beyond that finals are dropped and counted."""


class Follower:
    """Keeps a file up to date, in its own thread: settled text that grows, and a tail that is replaced.

    Every version replaces the last one atomically, so neither a reader nor a crash leaves half of one. Settled text is
    kept in an unnamed temporary file and copied from there, so memory does not grow with the file.

    Raises:
        InputError: the file cannot be written to.
    """

    def __init__(self, path: Path, settled: str = "", tail: str = "") -> None:
        self._path = path
        self._num_settled_bytes = 0
        self._error: OSError | None = None
        self._num_dropped = 0
        try:
            self._kept: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  closed in ``close``
            self._write(settled, tail)
        except OSError as error:
            raise InputError(f"{path} cannot be written to: {error.strerror}; choose another place") from error
        self._settled, self._tail = "", tail
        self._has_news = self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the newest version is not on the disk yet, for people; None where nothing is wrong."""
        error = self._error
        return None if error is None else f"{self._path} cannot be written to at the moment: {error.strerror}"

    def offer(self, settled: str, tail: str) -> None:
        """Append ``settled`` for good, then ``tail`` until the next offer; soon, in the writer's thread."""
        with self._changed:
            if len(self._settled) + len(settled) > MAX_WAITING_CHARS:
                self._num_dropped += 1
            else:
                self._settled += settled
            self._tail, self._has_news = tail, True
            self._changed.notify()

    def close(self) -> None:
        """Write what is left.

        Raises:
            InputError: the file could not be written in the meantime.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        with suppress(OSError):  # flushing what did not fit on the disk, which is reported below
            self._kept.close()
        if self._error is not None:
            raise InputError(f"{self._path} could not be written to: {self._error.strerror}; what it holds is older")
        if self._num_dropped:
            raise InputError(f"{self._path} could not be written to for long: {self._num_dropped} finals are missing")

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_news or self._is_closed)
                if not self._has_news:
                    return
                settled, tail = self._settled, self._tail
                self._settled, self._has_news = "", False
            begun_s = time.perf_counter()
            try:
                self._write(settled, tail)
                self._error = None
                rest_s = REST * (time.perf_counter() - begun_s)
            except OSError as error:  # a full disk may have room again soon
                self._error = error
                rest_s = RETRY_S
                with self._changed:
                    self._settled = settled + self._settled
                    self._has_news = not self._is_closed
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, rest_s)

    def _write(self, settled: str, tail: str) -> None:
        added = settled.encode("utf-8", "replace")
        self._kept.seek(self._num_settled_bytes)  # overwrites what a failed version has left there
        self._kept.write(added)
        with replacing(self._path) as version:
            self._copy_kept(self._num_settled_bytes + len(added), version)
            version.write(tail.encode("utf-8", "replace"))
        self._num_settled_bytes += len(added)

    def _copy_kept(self, num_bytes: int, version: IO[bytes]) -> None:
        self._kept.seek(0)
        while num_bytes:
            part = self._kept.read(min(num_bytes, COPIED_BYTES))
            version.write(part)
            num_bytes -= len(part)


class CaptionFile:
    """Keeps ``path`` (.srt, .vtt, .json or .txt) up to date with the finals: a `Listener`.

    ``about`` is what a JSON file states besides the captions.

    Raises:
        InputError: the file exists already, has another suffix, or cannot be written.
    """

    def __init__(self, path: Path, about: Transcript) -> None:
        name = path.suffix.lower().lstrip(".")
        if name not in FORMATS:
            raise InputError(f"{path}: captions are saved as one of {', '.join(f'.{name}' for name in FORMATS)}")
        if _is_there(path):
            raise InputError(f"{path} already exists and is not overwritten; choose another name")
        self._path, self._growth = path, open_growth(about, name)
        self._is_empty = True
        self._follower = Follower(path, self._growth.head, self._growth.tail())

    @property
    def problem(self) -> str | None:
        """See `Follower.problem`."""
        return self._follower.problem

    def take(self, event: Event) -> None:
        """Add a final."""
        if isinstance(event, Caption) and event.is_final:
            self._is_empty = False
            self._follower.offer(self._growth.add(event), self._growth.tail())

    def close(self) -> None:
        """Write the last state; without a single final the file is removed.

        Raises:
            InputError: the file could not be written.
        """
        self._follower.close()
        if self._is_empty:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Line:
    segment: int
    text: str


class LineFile:
    """Keeps the last two lines of what is said in a text file, partials included: a `Listener`.

    Programs that display the file have its name in their settings, so that of an earlier session is overwritten, but no
    file that holds more than two lines of text.

    Raises:
        InputError: another kind of file exists there, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if _is_there(path) and not _has_few_lines(path):
            raise InputError(
                f"{path} already exists and is not overwritten, since it is more than {NUM_LINES} lines of text; "
                "choose another name, or remove it"
            )
        self._lines: tuple[_Line, ...] = ()
        self._follower = Follower(path)

    @property
    def problem(self) -> str | None:
        """See `Follower.problem`."""
        return self._follower.problem

    def take(self, event: Event) -> None:
        """Show a caption."""
        if isinstance(event, Caption):
            older = tuple(line for line in self._lines if line.segment != event.segment)
            newer = (_Line(event.segment, event.text),) if event.words else ()
            self._lines = (*older, *newer)[-NUM_LINES:]
            self._follower.offer("", "".join(f"{line.text}\n" for line in self._lines))

    def close(self) -> None:
        """Write the last state.

        Raises:
            InputError: the file could not be written.
        """
        self._follower.close()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path} cannot be looked up: {error.strerror}; choose another place") from error


def _has_few_lines(path: Path) -> bool:
    """Whether a file may come from an earlier session: it is empty, or at most ``NUM_LINES`` lines of text."""
    if not path.is_file():  # reading a pipe or a device may block
        return False
    try:
        with path.open("rb") as file:
            text = file.read(MAX_LINES_BYTES + 1)
        return len(text) <= MAX_LINES_BYTES and b"\0" not in text and len(text.decode().splitlines()) <= NUM_LINES
    except (OSError, UnicodeDecodeError):
        return False
