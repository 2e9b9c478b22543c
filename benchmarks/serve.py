"""How many live streams a server holds: real-time clients are added until captions come late.

    python benchmarks/serve.py                  # 1, 2, 3 … streams, until they are too many
    python benchmarks/serve.py --streams 6      # this many only

Each client plays the same talking head again and again, as a browser would send it: 40 ms of s16 sound and a JPEG
picture 25 times a second, in real time. Its lag is how far the recognised time is behind the clock at each status
event; an infinitely fast server would lag by up to a chunk, since it waits for whole ones. A number of streams is held
when 99 of 100 reports of all clients together lag by less than two chunks. The clients run in this process, the server
in one of its own, on the same processor cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from _long_clip import DEMO_CLIP
from websockets.asyncio.client import ClientConnection, connect

from avsr.corpora import read_clip
from avsr.serve.protocol import (
    CaptionEvent,
    Config,
    End,
    Picture,
    Ready,
    Sound,
    Status,
    pack_picture,
    pack_sound,
    parse_event,
)
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES

Ticks = npt.NDArray[np.int16]
JPEG_QUALITY = 90
WARM_UP_S = 3.0
"""Reports of the first seconds do not count: trackers of faces are opened then."""
STAGGER_S = 0.13
"""Between the beginnings of two clients."""


@dataclass(frozen=True, slots=True)
class Held:
    """What ``num_streams`` clients saw: their lags and the latencies of captions, and how many cores it took."""

    num_streams: int
    lag_p50_ms: float
    lag_p99_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    server_cores: float
    is_held: bool


def main() -> None:
    """Run, print a row for every number of streams, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=DEMO_CLIP, help="what everybody plays")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each number of streams")
    parser.add_argument("--streams", type=int, help="only this many")
    parser.add_argument("--most", type=int, default=16, help="stop here at the latest")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    sounds, pictures = encode_clip(options.clip)
    numbers = [options.streams] if options.streams else range(1, options.most + 1)
    rows: list[Held] = []
    with ServerProcess(max(numbers)) as served:
        print(f"{os.cpu_count()} cores, {options.seconds:g} s each, {options.clip.name}")
        print("streams   lag p50   p99 ms   latency p50   p99 ms   cores in use   held")
        for num_streams in numbers:
            row = asyncio.run(measure(served, num_streams, sounds, pictures, options.seconds))
            rows.append(row)
            print(
                f"{row.num_streams:7}   {row.lag_p50_ms:7.0f}   {row.lag_p99_ms:6.0f}   {row.latency_p50_ms:11.0f}   "
                f"{row.latency_p99_ms:6.0f}   {row.server_cores:12.2f}   {'yes' if row.is_held else 'no'}",
                flush=True,
            )
            if not row.is_held:
                break
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def encode_clip(path: Path) -> tuple[Ticks, list[bytes]]:
    """Return the clip tick by tick: s16 sound at 16 kHz (ticks, 640), and JPEG files."""
    samples, frames = read_clip(path)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    pictures = [bytes(cv2.imencode(".jpg", frame.rgb[..., ::-1], quality)[1]) for frame in frames]
    pcm = (samples.clip(-1, 1) * 32767).astype(np.int16)
    num_ticks = min(len(pcm) // TICK_SAMPLES, len(pictures))
    ticks = pcm[: num_ticks * TICK_SAMPLES].reshape(num_ticks, TICK_SAMPLES)
    return ticks, pictures[:num_ticks]


class ServerProcess:
    """A server in a separate process."""

    def __init__(self, max_sessions: int) -> None:
        command = [sys.executable, "-m", "avsr", "serve", "--port", "0", "--max-sessions", str(max_sessions)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> ServerProcess:
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        self.url = line.split("captions at ")[1].split("/  ")[0].replace("http://", "ws://") + "/ws"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def processor_s(self) -> float:
        """Return the processor time that it has used, seconds; 0 where /proc does not tell."""
        path = Path(f"/proc/{self._process.pid}/stat")
        if not path.exists():
            return 0.0
        user, system = path.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def measure(
    served: ServerProcess, num_streams: int, sounds: Ticks, pictures: list[bytes], seconds: float
) -> Held:
    """Let ``num_streams`` clients talk for ``seconds``."""
    before_s, begun_s = served.processor_s(), time.monotonic()
    clients = [LiveClient(sounds, pictures, seconds) for _ in range(num_streams)]
    await asyncio.gather(*(client.run(served.url, STAGGER_S * i) for i, client in enumerate(clients)))
    cores = (served.processor_s() - before_s) / (time.monotonic() - begun_s)
    lags_ms = [lag for client in clients for lag in client.lags_ms] or [float("nan")]  # none: it is not held
    latencies_ms = [latency for client in clients for latency in client.latencies_ms] or [float("nan")]
    lag_p50_ms, lag_p99_ms = np.percentile(lags_ms, [50, 99])
    latency_p50_ms, latency_p99_ms = np.percentile(latencies_ms, [50, 99])
    is_held = bool(lag_p99_ms < 2 * clients[0].chunk_ms)
    return Held(num_streams, lag_p50_ms, lag_p99_ms, latency_p50_ms, latency_p99_ms, cores, is_held)


class LiveClient:
    """One speaker who talks without end."""

    def __init__(self, sounds: Ticks, pictures: list[bytes], seconds: float) -> None:
        self._sounds, self._pictures, self._seconds = sounds, pictures, seconds
        self.chunk_ms = 0
        self.lags_ms: list[float] = []
        self.latencies_ms: list[float] = []

    async def run(self, url: str, delay_s: float) -> None:
        """Talk to the server at ``url``."""
        await asyncio.sleep(delay_s)
        async with connect(url, compression=None, max_size=None) as socket:
            await socket.send(Config().model_dump_json(exclude_none=True))
            ready = parse_event(str(await socket.recv()))
            if not isinstance(ready, Ready):
                raise SystemExit(f"the server refuses: {ready}")
            self.chunk_ms = ready.chunk_ms
            begun_s = time.monotonic()
            talking = asyncio.create_task(self._talk(socket, begun_s))
            async for text in socket:
                event = parse_event(str(text))
                at_s = time.monotonic() - begun_s
                if isinstance(event, Status) and WARM_UP_S < at_s < self._seconds:
                    self.lags_ms.append(1000 * (at_s - event.time))
                if isinstance(event, CaptionEvent) and at_s > WARM_UP_S and event.latency_ms is not None:
                    self.latencies_ms.append(event.latency_ms)
            await talking

    async def _talk(self, socket: ClientConnection, begun_s: float) -> None:
        for tick, index in zip(count(), self._indices(), strict=False):
            at_s = tick * TICK_S
            if at_s > self._seconds:
                break
            await asyncio.sleep(begun_s + at_s + TICK_S - time.monotonic())
            await socket.send(pack_sound(Sound(self._sounds[index], SAMPLE_RATE, at_s)))
            await socket.send(pack_picture(Picture(self._pictures[index], at_s)))
        await socket.send(End().model_dump_json())

    def _indices(self) -> Iterator[int]:
        while True:
            yield from range(len(self._sounds))


if __name__ == "__main__":
    main()
