"""Live captions in a terminal: what will not change in bold, what may still change dimmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from avsr.types import Caption


@dataclass(frozen=True, slots=True)
class Board:
    """What one stream has said so far: its finals, and the newest partial after them."""

    finals: tuple[Caption, ...] = ()
    partial: Caption | None = None

    def take(self, captions: Iterable[Caption]) -> Board:
        """Return the board after ``captions``, oldest first."""
        board = self
        for caption in captions:
            board = Board((*board.finals, caption)) if caption.is_final else replace(board, partial=caption)
        return board

    @property
    def text(self) -> str:
        """Everything said, on one line."""
        captions = self.finals if self.partial is None else (*self.finals, self.partial)
        return " ".join(caption.text for caption in captions if caption.words)

    def styled(self) -> Text:
        """Return :attr:`text` with the part that may still change dimmed."""
        num_open = 0 if self.partial is None else len(self.partial.text) - self.partial.stable_chars
        settled = len(self.text) - num_open
        text = Text(self.text)
        text.stylize("bold", 0, settled)
        text.stylize("dim italic", settled)
        return text


@dataclass(frozen=True, slots=True)
class Cell:
    """One stream of a comparison; ``wer`` is its word error rate (0 is perfect), None until it has ended."""

    board: Board = Board()
    wer: float | None = None


def comparison(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]], *, reference: str) -> RenderableType:
    """Draw streams side by side: one row a sense, one column a condition, above them what was really said."""
    table = Table(show_lines=True, expand=True)
    table.add_column("")
    for title in titles:
        table.add_column(title, ratio=1)
    for name, cells in rows:
        table.add_row(name, *(_cell(cell) for cell in cells))
    spoken = Text.assemble(("said: ", "dim"), (reference, "bold"))
    return Group(spoken, table)


def _cell(cell: Cell) -> RenderableType:
    heard = cell.board.styled() if cell.board.text else Text("…" if cell.wer is None else "(nothing)", style="dim")
    if cell.wer is None:
        return heard
    style = "green" if cell.wer == 0 else "yellow" if cell.wer < 0.5 else "red"
    return Group(heard, Text(f"WER {cell.wer:.0%}", style=style))
