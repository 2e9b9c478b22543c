"""Files that follow a live session: captions that grow, and the last lines for programs that show them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from avsr.captions.files import FORMATS, render, write_whole
from avsr.errors import InputError
from avsr.live.events import Event
from avsr.types import Caption, Transcript

NUM_LINES = 2
"""Lines in a text file for other programs."""


class Follower:
    """Writes a file anew whenever its text has changed, in a thread of its own; texts that newer ones overtake are not.

    Every version is written whole: a reader, or a crash, never meets half of one.

    Raises:
        InputError: the file cannot be written to.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._error: OSError | None = None
        try:
            write_whole(path, text)
        except OSError as error:
            raise InputError(f"{path} cannot be written to: {error.strerror}; choose another place") from error
        self._make: Callable[[], str] | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    def offer(self, make: Callable[[], str]) -> None:
        """Write what ``make`` returns, soon; it is called in the writer's thread."""
        with self._changed:
            self._make = make
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
        if self._error is not None:
            raise InputError(f"{self._path} could not be written to: {self._error.strerror}; what it holds is older")

    def _follow(self) -> None:
        while True:
            with self._changed:
                while self._make is None and not self._is_closed:
                    self._changed.wait()
                make, self._make = self._make, None
            if make is None:
                return
            try:
                write_whole(self._path, make())
                self._error = None
            except OSError as error:  # a full disk may have room again for the next version
                self._error = error


class CaptionFile:
    """Keeps ``path`` (.srt, .vtt, .json or .txt) up to date with the finals: a `Listener`.

    ``about`` is what stands in it besides the captions. The finals are kept in memory, some 100 bytes a word.

    Raises:
        InputError: the file is there already, or is of another kind, or cannot be written.
    """

    def __init__(self, path: Path, about: Transcript) -> None:
        self._format = path.suffix.lower().lstrip(".")
        if self._format not in FORMATS:
            raise InputError(f"{path}: captions are saved as one of {', '.join(f'.{name}' for name in FORMATS)}")
        if path.exists():
            raise InputError(f"{path} is there already, and is not written over; choose another name")
        self._path, self._transcript = path, about
        self._follower = Follower(path, render(about, self._format))

    def take(self, event: Event) -> None:
        """Add a final."""
        if isinstance(event, Caption) and event.is_final and event.words:
            segments = (*self._transcript.segments, event)
            self._transcript = replace(self._transcript, segments=segments, duration_s=event.end_s)
            transcript = self._transcript
            self._follower.offer(lambda: render(transcript, self._format))

    def close(self) -> None:
        """Write the last state; without a word, there is no file.

        Raises:
            InputError: the file could not be written.
        """
        self._follower.close()
        if not self._transcript.segments:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Line:
    segment: int
    text: str


class LineFile:
    """Keeps the last two lines of what is said in a text file, partials included: a `Listener`."""

    def __init__(self, path: Path) -> None:
        self._lines: tuple[_Line, ...] = ()
        self._follower = Follower(path, "")

    def take(self, event: Event) -> None:
        """Show a caption."""
        if isinstance(event, Caption):
            older = tuple(line for line in self._lines if line.segment != event.segment)
            newer = (_Line(event.segment, event.text),) if event.words else ()
            self._lines = (*older, *newer)[-NUM_LINES:]
            lines = self._lines
            self._follower.offer(lambda: "".join(f"{line.text}\n" for line in lines))

    def close(self) -> None:
        """Write the last state.

        Raises:
            InputError: the file could not be written.
        """
        self._follower.close()
