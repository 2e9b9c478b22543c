"""Short films from long ones."""

from __future__ import annotations

from pathlib import Path

import av


def cut(film: Path, target: Path, end_s: float) -> Path:
    """Write the first ``end_s`` seconds of ``film`` to ``target``, as encoded: no picture may need a later one."""
    with av.open(str(film)) as source, av.open(str(target), "w") as copy:
        tracks = {stream: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.pts is not None and packet.pts * packet.time_base < end_s:
                packet.stream = tracks[packet.stream]
                copy.mux(packet)
    return target
