"""Counters of a server in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

HELP = {
    "avsr_sessions": ("gauge", "Streams that are open, with a connection or waiting for one."),
    "avsr_sessions_max": ("gauge", "Streams that may be open."),
    "avsr_sessions_total": ("counter", "Streams opened."),
    "avsr_resumed_total": ("counter", "Streams that went on after a lost connection."),
    "avsr_errors_total": ("counter", "Error events sent, by code."),
    "avsr_stalled_total": ("counter", "Clients disconnected because they read nothing."),
    "avsr_origins_refused_total": ("counter", "Websockets refused because a foreign web page opened them."),
    "avsr_connections_refused_total": ("counter", "Websockets refused because too many were open."),
    "avsr_audio_seconds_total": ("counter", "Seconds of sound received."),
    "avsr_pictures_total": ("counter", "Pictures received."),
    "avsr_finals_total": ("counter", "Final captions made."),
    "avsr_latency_seconds_sum": ("counter", "Sum of the latencies of final captions."),
    "avsr_batches_total": ("counter", "Steps of the network."),
    "avsr_batched_chunks_total": ("counter", "Chunks in them; more than one a step where streams went together."),
}


class Metrics:
    """Counters, by name and label, safe to use from any thread; and gauges, whose values are read when rendering."""

    def __init__(self, gauges: Mapping[str, Callable[[], float]]) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], float] = {}
        self._gauges = gauges

    def add(self, name: str, amount: float = 1.0, *, code: str = "") -> None:
        """Count ``amount`` more of ``name``, one of `HELP`."""
        with self._lock:
            key = name, code
            self._counts[key] = self._counts.get(key, 0.0) + amount

    def value(self, name: str, *, code: str = "") -> float:
        """Return a counter."""
        with self._lock:
            return self._counts.get((name, code), 0.0)

    def render(self) -> str:
        """Return all of it as text."""
        with self._lock:
            counts = dict(self._counts)
        lines = []
        for name, (kind, text) in HELP.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            if name in self._gauges:
                lines.append(f"{name} {self._gauges[name]():g}")
                continue
            labelled = {code: count for (each, code), count in counts.items() if each == name} or {"": 0.0}
            lines += [
                f'{name}{{code="{code}"}} {count:.12g}' if code else f"{name} {count:.12g}"
                for code, count in sorted(labelled.items())
            ]
        return "\n".join(lines) + "\n"
