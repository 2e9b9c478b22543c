"""Network cameras on this machine, all made with ffmpeg: it sends a film in real time."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

RATE_HZ = 25


def free_port() -> int:
    """Return a port that nobody uses, for TCP and very likely for UDP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def sending(film: Path, *output: str) -> Iterator[subprocess.Popen[bytes]]:
    """Send ``film`` again and again, as MPEG-2 unless ``output`` names another codec."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed; on Debian: apt-get install ffmpeg")
    source = ["-re", "-stream_loop", "50", "-i", str(film), "-an", "-c:v", "mpeg2video", "-g", "5"]
    process = subprocess.Popen(["ffmpeg", "-v", "error", *source, *output], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class RtspServer:
    """As much of RTSP (RFC 2326) as one viewer needs: RTP comes from ffmpeg, and goes on within the connection."""

    def __init__(self, film: Path, directory: Path) -> None:
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind(("127.0.0.1", 0))
        self._rtp.settimeout(0.2)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/live"
        self._sdp = directory / "stream.sdp"
        self._film = film
        self._is_closed = False

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve one viewer; yield the URL."""
        output = ["-f", "rtp", "-sdp_file", str(self._sdp), f"rtp://127.0.0.1:{self._rtp.getsockname()[1]}"]
        with sending(self._film, *output):
            deadline_s = time.monotonic() + 30
            while not (self._sdp.exists() and "m=video" in self._sdp.read_text()):
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            threading.Thread(target=self._serve, daemon=True).start()
            yield self.url
            self._is_closed = True
            self._listener.close()
        self._rtp.close()

    def _serve(self) -> None:
        with suppress(OSError):
            viewer, _ = self._listener.accept()
            with viewer, viewer.makefile("rb") as requests:
                while head := self._request(requests):
                    viewer.sendall(self._answer(*head))
                    if head[0] == "PLAY":
                        self._play(viewer)

    @staticmethod
    def _request(lines: Iterator[bytes]) -> tuple[str, str] | None:
        """Return the method and the number of the next request."""
        method, number = "", "0"
        for line in lines:
            text = line.decode().strip()
            if not text:
                return (method, number) if method else None
            if not method:
                method = text.split()[0]
            elif text.lower().startswith("cseq:"):
                number = text.split(":")[1].strip()
        return None

    def _answer(self, method: str, number: str) -> bytes:
        body = ""
        headers = [f"CSeq: {number}", "Session: 1"]
        if method == "OPTIONS":
            headers.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            # The ports and the address are the viewer's to choose.
            body = "".join(
                f"m=video 0 {line.split(' ', 2)[2]}\r\na=control:track\r\n" if line.startswith("m=") else f"{line}\r\n"
                for line in self._sdp.read_text().splitlines()
                if not line.startswith("SDP:")
            )
            headers += ["Content-Type: application/sdp", f"Content-Base: {self.url}/", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            headers.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return ("\r\n".join(["RTSP/1.0 200 OK", *headers]) + "\r\n\r\n" + body).encode()

    def _play(self, viewer: socket.socket) -> None:
        while not self._is_closed:
            with suppress(TimeoutError):
                packet = self._rtp.recv(65_536)
                viewer.sendall(b"$\x00" + len(packet).to_bytes(2, "big") + packet)
