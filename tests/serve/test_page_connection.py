"""The page's connection: what it says to a server that is full, gone, or back, and what it tells the user."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import avsr

PAGE = Path(avsr.__file__).parent / "serve" / "page"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
STAGE = """
globalThis.location = { protocol: "http:", host: "127.0.0.1:1", hostname: "127.0.0.1", origin: "http://127.0.0.1:1" };
const sockets = [], states = [], captions = [], texts = [], timers = [];
const timeOf = (message) => new DataView(message).getFloat64(1, true);
globalThis.setTimeout = (work) => timers.push(work);
globalThis.clearTimeout = () => {};
globalThis.WebSocket = class {
  static OPEN = 1;
  readyState = 1; bufferedAmount = 0; sent = [];
  constructor() { sockets.push(this); }
  send(message) { this.sent.push(typeof message === "string" ? JSON.parse(message) : timeOf(message)); }
  close() {}
  hear(event) { this.onmessage({ data: JSON.stringify(event) }); }
  lose() { this.onclose(); }
};
const { Connection } = await import("./connection.mjs");
const handlers = { offsetMs: "auto", onState: (state, text) => states.push(text), onEnd: () => {},
  onCaption: (caption) => { captions.push([caption.segment, caption.start]); texts.push(caption.text); } };
const open = (base) => { const made = new Connection(handlers, base); made.open(); at().onopen(); return made; };
const at = () => sockets.at(-1);
const retry = () => { timers.pop()(); at().onopen(); };
const ready = (audio = 0) => at().hear({ type: "ready", session: "s", received: { audio, video: 0 } });
const final = (segment, start) => at().hear({ type: "final", segment, start, end: start + 1, text: "x", words: [] });
"""
TELL = "console.log(JSON.stringify({ states, captions, texts, sent: sockets.map((socket) => socket.sent) }));"


def played(tmp_path: Path, play: str) -> dict[str, Any]:
    """Return what a play of a connection and its server showed."""
    shutil.copy(PAGE / "connection.js", tmp_path / "connection.mjs")
    (tmp_path / "play.mjs").write_text(STAGE + play + TELL)
    done = subprocess.run([str(NODE), str(tmp_path / "play.mjs")], stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_full_server_is_not_reported_as_a_lost_connection(tmp_path: Path) -> None:
    busy = 'at().hear({ type: "error", code: "busy", message: "all is in use", retry: true }); at().lose();'
    told = played(tmp_path, f"open({{ time: 0, segment: 0 }}); {busy} retry(); {busy}")
    assert told["states"] == ["Connecting …", "All is in use.", "All is in use."]


def test_a_connection_lost_while_waiting_for_the_last_words_is_resumed(tmp_path: Path) -> None:
    told = played(
        tmp_path,
        """
        const connection = open({ time: 0, segment: 0 });
        ready(); connection.sendSound(new Int16Array(16000), 16000, 0); final(0, 0.2);
        connection.finish(); at().lose(); retry(); ready(1); final(1, 0.7);
        at().hear({ type: "done" }); at().lose();
        """,
    )
    assert told["states"][-2:] == ["Waiting for the last captions …", "Stopped."]
    assert "Connection lost; reconnecting …" not in told["states"]
    config, end = told["sent"][1]
    assert config["resume"] == {"session": "s", "next_segment": 1}
    assert end == {"type": "end"}
    assert told["captions"] == [[0, 0.2], [1, 0.7]]


def test_reconnecting_is_given_up_after_a_while(tmp_path: Path) -> None:
    told = played(
        tmp_path,
        """
        const connection = open({ time: 0, segment: 0 });
        ready(); connection.finish(); at().lose();
        while (timers.length) { timers.pop()(); at().lose(); }
        """,
    )
    assert told["states"][-1].startswith("Stopped. The connection was lost")


def test_the_last_partial_of_a_lost_server_is_withdrawn(tmp_path: Path) -> None:
    told = played(
        tmp_path,
        """
        open({ time: 0, segment: 0 });
        const words = [{ text: "bin", start: 0.2, end: 0.4, confidence: 1 }];
        ready(); at().hear({ type: "partial", segment: 0, start: 0.2, end: 0.4, text: "bin", stable_chars: 3, words });
        at().lose(); retry();
        at().hear({ type: "error", code: "unknown_session", message: "new here" }); at().lose(); retry(); ready();
        """,
    )
    assert told["texts"] == ["bin", ""]


def test_a_second_stream_goes_on_with_the_times_and_numbers_of_the_first(tmp_path: Path) -> None:
    told = played(
        tmp_path,
        """
        const connection = open({ time: 60, segment: 4 });
        ready(); connection.sendSound(new Int16Array(1600), 16000, 61); final(0, 1.5);
        """,
    )
    assert told["sent"][0][1] == pytest.approx(1.0)
    assert told["captions"] == [[4, 61.5]]


@pytest.mark.parametrize(
    ("address", "token"),
    [("#token=a+b/c=", "a+b/c="), ("#token=a%2Bb%20c", "a+b c"), ("", None), ("#x=1&token=q", "q")],
)
def test_the_token_in_the_address_is_taken_as_it_is(tmp_path: Path, address: str, token: str | None) -> None:
    read = f"const {{ tokenOf }} = await import('./connection.mjs'); states.push(tokenOf({json.dumps(address)}));"
    assert played(tmp_path, read)["states"] == [token]
