"""What ``avsr live`` shows: a live view in a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.live import Live
from rich.text import Text

from avsr.captions.live import LiveView
from avsr.cli.output import discard_stdout, give_up_stdout, note
from avsr.live.captioner import LiveCaptioner
from avsr.live.events import Device, Done, Event, Notice, Ready, State, Status, as_json
from avsr.types import Caption

REFRESH_S = 0.1


@contextmanager
def open_screen(
    captioner: LiveCaptioner, on_unread: Callable[[], None], *, jsonl: bool, quiet: bool
) -> Iterator[PlainScreen | LiveScreen]:
    """Show a session: live where standard output is a terminal and neither ``jsonl`` nor ``quiet`` asks otherwise.

    ``on_unread`` is called once nobody reads standard output any more.
    """
    if jsonl or quiet or not sys.stdout.isatty():
        plain = PlainScreen(captioner, on_unread, jsonl=jsonl, quiet=quiet)
        yield plain
        plain.close()
        return
    screen = LiveScreen(captioner)
    with screen.live:
        yield screen


class PlainScreen:
    """A `Listener`: finals, or all events as JSON, on standard output; else what happens to devices on error.

    On a full disk, output waits in the buffer and the session goes on. Where the reader of a pipe has gone,
    ``on_unread`` is called, and later output is discarded.
    """

    def __init__(self, captioner: LiveCaptioner, on_unread: Callable[[], None], *, jsonl: bool, quiet: bool) -> None:
        self._captioner, self._on_unread, self._jsonl, self._quiet = captioner, on_unread, jsonl, quiet
        self._error: OSError | None = None

    @property
    def problem(self) -> str | None:
        """Why standard output lags behind, as a message; None where nothing is wrong."""
        error = self._error
        return None if error is None else f"standard output cannot be written to at the moment: {error.strerror}"

    def take(self, event: Event) -> None:
        """Print what is asked for."""
        if self._jsonl:
            self._print(json.dumps(as_json(event, self._captioner.offset_ms), ensure_ascii=False))
        elif isinstance(event, Caption):
            if event.is_final:
                self._print(event.text)
        elif not self._quiet:
            for line in _describe(event):
                note(line)

    def refresh(self) -> None:
        """Plain output does not move."""

    def close(self) -> None:
        """Flush what is buffered.

        Raises:
            AvsrError: it still cannot be written.
        """
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            discard_stdout()
        except OSError as error:
            raise give_up_stdout(error) from error

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
            self._error = None
        except BrokenPipeError:
            discard_stdout()
            self._on_unread()
        except OSError as error:
            self._error = error


class LiveScreen:
    """A `Listener`: finals scroll, and below them stand the line being spoken and the senses."""

    def __init__(self, captioner: LiveCaptioner) -> None:
        self._captioner = captioner
        self._console = Console()
        self._view = LiveView()
        self._drawn_s = 0.0
        self.live = Live(self._view.draw(), console=self._console, auto_refresh=False)

    @property
    def problem(self) -> None:
        """None: a terminal never runs full."""

    def take(self, event: Event) -> None:
        """Print a final or a message above the view; keep a partial for it."""
        if not isinstance(event, Caption):
            for line in _describe(event):
                self._console.print(Text(line, style="dim"))
            return
        partial = None if event.is_final else event
        self._view = replace(self._view, partial=partial, audio_weight=event.audio_weight, latency_ms=event.latency_ms)
        if event.is_final:
            self._console.print(Text(event.text, style="bold"))

    def refresh(self) -> None:
        """Draw, ten times a second at most."""
        now_s = time.monotonic()
        if now_s - self._drawn_s < REFRESH_S:
            return
        self._drawn_s = now_s
        ticks, figures, states = self._captioner.latest, self._captioner.figures, self._captioner.states()
        self._view = replace(
            self._view,
            microphone=_shown(states, "microphone"),
            camera=_shown(states, "camera"),
            level_db=None if ticks is None else ticks.loudness_db(ticks.num_ticks - 1),
            offset_ms=self._captioner.offset_ms,
            num_dropped=figures.dropped_pictures + figures.overflown_pictures,
            lost_s=figures.dropped_sound_s,
        )
        self.live.update(self._view.draw(), refresh=True)


def _shown(states: dict[Device, State | None], device: Device) -> str | None:
    if device not in states:
        return None
    return (states[device] or "opening").replace("_", " ")


def _describe(event: Ready | Status | Notice | Done) -> tuple[str, ...]:
    """Say it to people, in lines."""
    if isinstance(event, Ready):
        return ("listening; Ctrl-C ends it",)
    if isinstance(event, Done):
        return event.notes
    return (f"{event.device}: {event.message}",) if isinstance(event, Status) else (event.message,)
