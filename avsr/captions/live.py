"""One live stream in a terminal: the line being spoken, and below it the state of both senses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.color import Color
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from avsr.captions.terminal import Board
from avsr.types import ByteArray, Caption

BAR_CELLS = 10
QUIET_DB, LOUD_DB = -60.0, 0.0
"""The ends of the level meter."""
NOTICEABLE_S = 0.1
"""Lost sound is shown from here on: about a syllable."""


@dataclass(frozen=True, slots=True)
class LiveView:
    """What is shown; None where nothing is known, or a device is not in use.

    ``microphone`` and ``camera`` are the devices' states in a word or two, ``level_db`` the loudness (dB of full
    scale), ``audio_weight`` how far the sound is trusted (0 to 1), ``latency_ms`` the newest caption's latency,
    ``num_dropped`` and ``lost_s`` how many pictures and how much sound never reached the engine.
    """

    partial: Caption | None = None
    microphone: str | None = None
    camera: str | None = None
    level_db: float | None = None
    audio_weight: float | None = None
    latency_ms: float | None = None
    offset_ms: float = 0.0
    num_dropped: int = 0
    lost_s: float = 0.0

    def draw(self) -> RenderableType:
        """Return the two lines."""
        spoken = Board(partial=self.partial).styled() if self.partial and self.partial.words else Text("…", style="dim")
        return Group(spoken, self._senses())

    def _senses(self) -> Text:
        parts: list[Text] = []
        if self.microphone is not None:
            level = None if self.level_db is None else (self.level_db - QUIET_DB) / (LOUD_DB - QUIET_DB)
            parts.append(Text.assemble(("mic ", "dim"), bar(level, "green"), " ", _state(self.microphone)))
        if self.camera is not None:
            parts.append(Text.assemble(("camera ", "dim"), _state(self.camera)))
        if self.microphone is not None and self.camera is not None:
            parts.append(Text.assemble(("lips ", "dim"), bar(self.audio_weight, "cyan"), (" audio", "dim")))
        if self.latency_ms is not None:
            parts.append(Text(f"{self.latency_ms:.0f} ms", style="dim"))
        if self.offset_ms:
            parts.append(Text(f"A/V {self.offset_ms:+.0f} ms", style="dim"))
        if self.num_dropped:
            parts.append(Text(f"{self.num_dropped} frames dropped", style="yellow"))
        if self.lost_s >= NOTICEABLE_S:
            parts.append(Text(f"{self.lost_s:.1f} s of audio lost", style="bold yellow"))
        return Text("  ").join(parts)


def bar(share: float | None, style: str) -> Text:
    """Draw a share of 0 to 1 as a bar of ten cells; an empty one for None."""
    num_full = 0 if share is None else round(BAR_CELLS * min(max(share, 0.0), 1.0))
    return Text.assemble(("█" * num_full, style), ("░" * (BAR_CELLS - num_full), "dim"))


def picture(rgb: ByteArray, num_columns: int) -> Text:
    """Draw u8 (H, W, 3) in characters, each of which shows two pixels, one above the other."""
    height, width = rgb.shape[:2]
    num_rows = max(1, round(num_columns * height / width / 2))
    rows = np.linspace(0, height - 1, 2 * num_rows).astype(int)
    columns = np.linspace(0, width - 1, num_columns).astype(int)
    text = Text()
    for upper, lower in rgb[rows][:, columns].reshape(num_rows, 2, num_columns, 3):
        for (r, g, b), (r2, g2, b2) in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(r, g, b), bgcolor=Color.from_rgb(r2, g2, b2)))
        text.append("\n")
    return text


def _state(state: str) -> Text:
    return Text(state, style="green" if state == "live" else "bold yellow")
