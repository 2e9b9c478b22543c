"""A live session: devices, the loop that captions what they deliver, and listeners."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from avsr.errors import DeviceError
from avsr.live.captioner import LiveCaptioner
from avsr.live.events import Device, Event, Status
from avsr.live.inbox import Inbox
from avsr.live.keeper import Keeper
from avsr.media.capture import Source

POLL_S = 0.1
"""How long the loop waits for a device before it looks at the clock again."""


class Listener(Protocol):
    """Receives events: a file, the terminal, a pipe."""

    def take(self, event: Event) -> None:
        """Take an event; called by the loop, so it must be quick."""
        ...


def run_session(
    captioner: LiveCaptioner,
    sources: dict[Device, Callable[[], Source]],
    listeners: Iterable[Listener],
    stopping: threading.Event,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Caption what ``sources`` deliver until ``stopping`` is set; ``on_poll`` is called after every step.

    Raises:
        DeviceError: not one of the devices could be opened.
    """
    listeners = tuple(listeners)
    inbox = Inbox()
    keepers = [Keeper(device, open_source, inbox) for device, open_source in sources.items()]
    refusals: dict[Device, str] = {}
    any_was_live = False

    def tell(events: list[Event]) -> None:
        for event in events:
            for listener in listeners:
                listener.take(event)

    for keeper in keepers:
        keeper.start()
    try:
        while not stopping.is_set():
            events = captioner.take(inbox.take(POLL_S))
            captioner.note_overflow(inbox.num_dropped_pictures, inbox.dropped_sound_s)
            for event in events:
                if isinstance(event, Status) and not any_was_live:
                    any_was_live = event.state != "lost"
                    refusals[event.device] = event.message
            tell(events)
            if not any_was_live and len(refusals) == len(sources):
                raise DeviceError("; ".join(refusals.values()))
            on_poll()
    finally:
        for keeper in keepers:
            keeper.stop()
    while (item := inbox.take(0.0)) is not None:  # what was said before the end is captioned
        tell(captioner.take(item))
    captioner.note_overflow(inbox.num_dropped_pictures, inbox.dropped_sound_s)
    tell(captioner.finish())
