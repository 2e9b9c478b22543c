"""A bounded queue of events to one client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from avsr.serve.protocol import AnyEvent, CaptionEvent, Status


class StalledClientError(Exception):
    """The client does not read what it is sent."""


class Outbox:
    """A queue in front of ``send`` that drops outdated events.

    A newer partial or status replaces a waiting one, and a final replaces the partials of its segment, so only finals
    can pile up. If a send takes longer than ``stalled_s``, since all buffers on the way are full, or more than
    ``max_waiting`` events wait, ``run`` raises `StalledClientError`.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], *, stalled_s: float, max_waiting: int) -> None:
        self._send, self._stalled_s, self._max_waiting = send, stalled_s, max_waiting
        self._waiting: list[AnyEvent] = []
        self._has_news = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_ending = False

    def put(self, event: AnyEvent) -> None:
        """Queue ``event``; returns at once."""
        self._waiting = [earlier for earlier in self._waiting if not _outdates(event, earlier)]
        self._waiting.append(event)
        self._is_empty.clear()
        self._has_news.set()

    async def emptied(self) -> None:
        """Wait until all events are sent."""
        await self._is_empty.wait()

    def end(self) -> None:
        """Let ``run`` return when everything is sent."""
        self._is_ending = True
        self._has_news.set()

    async def run(self) -> None:
        """Send until `end`.

        Raises:
            StalledClientError: see above.
        """
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            while self._waiting:
                if len(self._waiting) > self._max_waiting:
                    raise StalledClientError
                try:
                    await asyncio.wait_for(self._send(self._waiting.pop(0).model_dump_json()), self._stalled_s)
                except asyncio.TimeoutError:
                    raise StalledClientError from None
            self._is_empty.set()
            if self._is_ending:
                return


def _outdates(newer: AnyEvent, older: AnyEvent) -> bool:
    if isinstance(newer, Status):
        return isinstance(older, Status)
    if not isinstance(newer, CaptionEvent) or not isinstance(older, CaptionEvent):
        return False
    return older.type == "partial" and newer.segment >= older.segment
