"""Training on stderr: a live table of the stages under way on a terminal, else a line for whatever happens."""

from __future__ import annotations

import sys
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from avsr.train.tracking import Report, StageProgress

COLUMNS = ("stage", "epoch", "step", "loss", "rate", "clips/s", "dev WER", "left")


class TrainingTable:
    """``show`` takes the reports of a run; stages stay in the table when they are done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._stages: dict[str, StageProgress] = {}
        # Standard output is for results: rich would send it to stderr, table and all.
        self._live = Live(
            console=self._console, get_renderable=self._table, refresh_per_second=4, redirect_stdout=False
        )

    def show(self, report: Report) -> None:
        """Take in what a stage says."""
        if isinstance(report, StageProgress):
            self._stages[report.stage] = report
            if self._console.is_terminal and not self._live.is_started:
                self._live.start()
        elif self._console.is_terminal:
            self._console.out(str(report), highlight=False)
        else:
            print(report, file=sys.stderr, flush=True)

    def __enter__(self) -> TrainingTable:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def _table(self) -> Table:
        table = Table()
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in ("stage", "dev WER") else "right")
        for progress in self._stages.values():
            table.add_row(*_cells(progress))
        return table


def _cells(progress: StageProgress) -> tuple[str, ...]:
    scores = "  ".join(f"{name.removesuffix('_wer')} {100 * rate:.1f} %" for name, rate in progress.scores.items())
    return (
        progress.stage,
        f"{progress.epoch}/{progress.num_epochs}",
        f"{progress.step}/{progress.num_steps}",
        f"{progress.loss:.3f}",
        f"{progress.learning_rate:.1e}",
        f"{progress.clips_per_s:.1f}",
        scores,
        str(timedelta(seconds=round(progress.eta_s))),
    )
