"""The live view says how both senses are."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from avsr.captions.live import LiveView, bar, picture
from avsr.types import Caption, Word

PARTIAL = Caption(0, 1, False, (Word("bin", 0, 1, 0.9), Word("blue", 1, 2, 0.4)), 3, 0, 2, 0.4, 1.0)


def drawn(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(view.draw())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_known_is_shown() -> None:
    shown = drawn(LiveView(PARTIAL, "live", "no face", -30.0, 0.4, 82.4, 80.0, 3, 0.26))
    for part in (
        "bin blue",
        "mic █████░░░░░ live",
        "camera no face",
        "lips ████░░░░░░ audio",
        "82 ms",
        "+80 ms",
        "3 fra",
        "0.3 s of audio lost",
    ):
        assert part in shown


def test_what_is_not_in_use_is_not_shown() -> None:
    shown = drawn(LiveView(microphone="live"))
    assert "…" in shown
    assert "camera" not in shown
    assert "lips" not in shown


def test_sound_is_said_to_be_lost_once_that_can_be_noticed() -> None:
    assert "lost" not in drawn(LiveView(microphone="live", lost_s=0.09))
    assert "0.1 s of audio lost" in drawn(LiveView(microphone="live", lost_s=0.1))


def test_the_unstable_tail_is_dimmed() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(LiveView(PARTIAL).draw())
    assert isinstance(console.file, io.StringIO)
    settled, _, tail = console.file.getvalue().partition("blue")
    assert "\x1b[1mbin" in settled
    assert "\x1b[2;3m" in settled
    assert tail


def test_a_bar_stays_within_its_ends() -> None:
    assert [bar(share, "red").plain.count("█") for share in (-1.0, 0.0, 0.5, 2.0, None)] == [0, 0, 5, 10, 0]


def test_a_preview_shows_the_picture() -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, 32:] = 255
    text = picture(rgb, 16)
    lines = text.plain.splitlines()
    assert [len(line) for line in lines] == [16] * 6
    assert "#ffffff" in str(text.spans[15].style)
    assert "#ffffff" not in str(text.spans[0].style)
