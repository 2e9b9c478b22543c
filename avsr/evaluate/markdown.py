"""Tables in Markdown. Apart from `avsr.evaluate.tables`, since training must not need the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], num_left: int = 1) -> str:
    """Return a table, its first ``num_left`` columns to the left and the others to the right."""
    lines = heads, ["---" if index < num_left else "---:" for index in range(len(heads))], *rows
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
