"""The bounded queue between the devices' threads and the loop; it counts what was dropped, here or by the devices."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from avsr.live.events import Device
from avsr.media.capture import Capture, Picture, Sound

MAX_SOUND_S = 10.0
"""Sound that may wait; beyond that the oldest is dropped, which happens only if the loop stalls for 10 s."""
MAX_PICTURES = 16
"""Pictures that may wait; beyond them the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Change:
    """A device is there (``is_live``) or gone; ``message`` says why, for people."""

    device: Device
    is_live: bool
    message: str


class Inbox:
    """Filled by the devices' threads, emptied by one loop, in the order of arrival."""

    def __init__(self) -> None:
        self.num_dropped_pictures = 0
        self.dropped_sound_s = 0.0
        self._items: deque[Capture | Change] = deque()
        self._waiting_sound_s = 0.0
        self._num_waiting_pictures = 0
        self._changed = threading.Condition()

    def put(self, item: Capture | Change) -> None:
        """Add what a device delivered or what became of it; never waits."""
        with self._changed:
            if isinstance(item, Sound):
                self.dropped_sound_s += item.lost_s
            self._items.append(item)
            self._count(item, 1)
            while self._num_waiting_pictures > MAX_PICTURES:
                self._drop_oldest(Picture)
                self.num_dropped_pictures += 1
            while self._waiting_sound_s > MAX_SOUND_S:
                self.dropped_sound_s += self._drop_oldest(Sound)
            self._changed.notify()

    def take(self, timeout_s: float) -> Capture | Change | None:
        """Return the oldest item, after waiting for one if need be; None after ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._items:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return None
            item = self._items.popleft()
            self._count(item, -1)
            return item

    def _count(self, item: Capture | Change, sign: int) -> None:
        if isinstance(item, Sound):
            self._waiting_sound_s = max(0.0, self._waiting_sound_s + sign * item.duration_s)
        elif isinstance(item, Picture):
            self._num_waiting_pictures += sign

    def _drop_oldest(self, kind: type[Capture]) -> float:
        """Take the oldest of a kind out; return its length in seconds."""
        # By its place: arrays cannot be compared for equality.
        index, item = next((i, item) for i, item in enumerate(self._items) if isinstance(item, kind))
        del self._items[index]
        self._count(item, -1)
        return item.duration_s if isinstance(item, Sound) else 0.0
