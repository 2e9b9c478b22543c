"""Keeps a device open, in its own thread, for as long as the session lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable

from avsr.errors import DeviceError
from avsr.live.events import Device
from avsr.live.inbox import Change, Inbox
from avsr.media.capture import Source

RETRY_S = 0.4
"""Pause between attempts to open a device that is gone."""


class Keeper:
    """Reads a device into the inbox; when it fails, reports that and tries to open it again until it is back."""

    def __init__(self, device: Device, open_source: Callable[[], Source], inbox: Inbox) -> None:
        self._device, self._open_source, self._inbox = device, open_source, inbox
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=device, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Release the device; a driver call that does not return in time is abandoned."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _keep(self) -> None:
        reason: str | None = None
        while not self._stopping.is_set():
            try:
                source = self._open_source()
                try:
                    capture = source.read()
                    reason = None
                    self._inbox.put(Change(self._device, is_live=True, message=source.name))
                    self._inbox.put(capture)
                    while not self._stopping.is_set():
                        self._inbox.put(source.read())
                finally:
                    source.close()
            except Exception as error:  # drivers and decoders fail in ways of their own; the device may come back
                told = str(error) if isinstance(error, DeviceError) else f"the {self._device} failed: {error!r}"
                # Said once, however often it is tried.
                if told != reason:
                    reason = told
                    self._inbox.put(Change(self._device, is_live=False, message=reason))
            self._stopping.wait(RETRY_S)
