"""Results of the kernel benchmark: saved as JSON, printed as tables, compared with targets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _timing import Spread

Row = dict[str, Any]


@dataclass
class Report:
    """Everything measured so far. ``failures`` lists our results that were wrong or raised an error."""

    machine: dict[str, str | None]
    path: Path | None
    copy_gb_s: float | None = None
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    @contextmanager
    def row(self, section: str, candidate: str, figures: dict[str, Any]) -> Iterator[Row]:
        """Add a row; an exception while measuring it is stored as ``refused``, and as a failure if it is ours."""
        row: Row = {"section": section, "candidate": candidate, **figures}
        self.rows.append(row)
        try:
            yield row
        except Exception as error:  # a benchmark goes on with the next row, whatever a rival's compiler raises
            first_line = str(error).strip().split("\n")[0][:300]
            row["refused"] = f"{type(error).__name__}: {first_line}"
        if "refused" in row and candidate == "ours":
            self.failures.append(f"{section} {figures}: {row['refused']}")

    def of(self, section: str) -> list[Row]:
        """Return a section's rows."""
        return [row for row in self.rows if row["section"] == section]

    def save(self) -> None:
        """Write the report so far to ``path``, if given."""
        if self.path is None:
            return
        content = {
            "machine": self.machine,
            "copy_gb_s": self.copy_gb_s,
            "seconds": round(time.perf_counter() - self.begun, 1),
            "failures": self.failures,
            "targets": [asdict(target) for target in judge(self)],
            "rows": self.rows,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(content, indent=1, default=_plain) + "\n")


@dataclass(frozen=True, slots=True)
class Target:
    """A target and the measured value; None where it was not measured."""

    name: str
    wanted: str
    measured: float | None
    met: bool | None


def judge(report: Report) -> list[Target]:
    """Compare the measurements with the targets: GPU ones where there is a GPU, else the CPU's."""
    if report.copy_gb_s is None:
        worst = [row["times_best_rival"] for row in report.of("streaming") if "times_best_rival" in row]
        return [_at_most("reference path over the best of eager and SDPA, worst shape", 1.05, max(worst, default=None))]
    headline = [row for row in report.of("streaming") if "replayed" in row]

    def find(batch: int, candidate: str) -> Row | None:
        return next((row for row in headline if row["batch"] == batch and row["candidate"] == candidate), None)

    targets = []
    for batch in (1, 64, 512):
        for candidate, factor in (("eager", 5.0), ("sdpa", 1.5), ("flex", 1.2)):
            row = find(batch, candidate)
            ratio = row.get("times_ours_replayed") if row else None
            targets.append(_at_least(f"forward, replayed, B={batch}: {candidate} over ours", factor, ratio))
    one = find(1, "ours")
    targets.append(_at_most("B=1, replayed: us", 6.0, one["replayed"].median_us if one else None))
    targets.append(_at_most("B=1: launches", 1, one["launches"] if one else None))
    for batch in (512, 1024):
        row = find(batch, "ours")
        share = row.get("share_of_copy") if row else None
        targets.append(_at_least(f"B={batch}: share of the measured copy bandwidth", 0.6, share))
    for row in report.of("training"):
        if row["candidate"] == "flex":
            name = f"forward and backward, T={row['ticks']}, H={row['heads']}: flex over ours"
            targets.append(_at_least(name, 1.2, row.get("times_ours_replayed")))
    steps = [
        row["latency"].p50_ms
        for row in report.of("model step")
        if "latency" in row and row["graph"] and row["backend"] == report.machine["kernels"]
    ]
    targets.append(_at_most("whole step of one stream, captured: worst p50, ms", 3.0, max(steps, default=None)))
    streams = [row["streams"] for row in report.of("capacity") if "streams" in row]
    targets.append(_at_least("streams on one GPU, chunks of 320 ms, p99 <= 100 ms", 1000, max(streams, default=None)))
    return targets


def add_ratios(rows: Sequence[Row], ours: Row | None) -> None:
    """Add to each row its time relative to ours."""
    for row in rows:
        for way in ("launched", "replayed"):
            if ours is not None and way in row and way in ours:
                row[f"times_ours_{way}"] = row[way].median_us / ours[way].median_us


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, plainly where rich is not installed."""
    cells = [[_text(cell) for cell in row] for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        print(f"\n{title}")
        for line in [columns, *cells]:
            print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)
        return
    table = Table(*columns, title=title)
    for line in cells:
        table.add_row(*line)
    console = Console()
    if not console.is_terminal:
        console.width = 160  # do not wrap tables in a log file
    console.print(table)


def _at_least(name: str, wanted: float, measured: float | None) -> Target:
    return Target(name, f">= {wanted:g}", measured, None if measured is None else measured >= wanted)


def _at_most(name: str, wanted: float, measured: float | None) -> Target:
    return Target(name, f"<= {wanted:g}", measured, None if measured is None else measured <= wanted)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Spread):
        return f"{cell.median_us:.1f} ({cell.p10_us:.1f}-{cell.p90_us:.1f})"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _plain(value: object) -> object:
    return asdict(value)  # type: ignore[call-overload]
