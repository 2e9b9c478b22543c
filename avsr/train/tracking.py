"""Progress of a training run: reports for people, ``log.jsonl`` and TensorBoard logs.

    {"epoch": 1, "step": 17, "loss": 3.2, "learning_rate": 0.0004}                        a line a step
    {"epoch": 1, "loss": 3.4, "seconds": 41.2, "fused_wer": 0.31, "dev_seen_wer": 0.2}    a line an epoch, as it ends

A checkpoint records the length of the log: a resumed run truncates what was logged after its checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from avsr.disk import writing

LOG_FILE = "log.jsonl"
TENSORBOARD = "tensorboard"
SMOOTHING = 0.9
"""Of the exponential average of step times, from which speed and remaining time are shown."""


@dataclass
class StageState:
    """Progress and results of a stage; with the weights and the optimiser, all that the next step depends on.

    ``step`` steps of epoch ``epoch`` are done, ``total_steps`` of the stage; ``loss_sum`` is over the former,
    ``ticks`` were learnt from. ``scores`` are of the last validation, ``best_scores`` of the best,
    ``num_worse`` validations ago. ``seconds`` is the time spent in this epoch.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    loss_sum: float = 0.0
    ticks: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    best_scores: dict[str, float] | None = None
    best_epoch: int = 0
    num_worse: int = 0


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far a stage is: in epoch ``epoch`` (from 1), ``step`` steps of it done; ``scores`` of the last validation.

    ``loss`` is the epoch's so far; ``eta_s`` is without validations to come.
    """

    stage: str
    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    loss: float
    learning_rate: float
    clips_per_s: float
    eta_s: float
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageNote:
    """Something that happened in a stage, in words."""

    stage: str
    text: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.text}"


Report = StageProgress | StageNote
OnReport = Callable[[Report], None]


def print_notes(report: Report) -> None:
    """Print what happens, and nothing of what is under way."""
    if isinstance(report, StageNote):
        print(report, flush=True)


class Tracker:
    """Reports and logs one stage; silent in all processes but the first (``directory`` None)."""

    def __init__(self, stage: str, num_epochs: int, directory: Path | None, on_report: OnReport) -> None:
        self._stage, self._num_epochs, self._directory = stage, num_epochs, directory
        self._on_report: OnReport = on_report if directory is not None else lambda report: None
        self._log: IO[bytes] | None = None
        self._board: Any = None
        self._scores: Mapping[str, float] = {}
        self._shown: StageProgress | None = None
        self._step_s: float | None = None
        self._stepped_s = time.monotonic()

    def open(self, log_bytes: int, state: StageState) -> None:
        """Go on writing where the log had ``log_bytes`` bytes, with the step after ``state``."""
        self._scores = state.scores
        self._stepped_s = time.monotonic()
        if self._directory is None:
            return
        path = self._directory / LOG_FILE
        with writing(path):
            path.touch()
            self._log = path.open("r+b")
            self._log.truncate(min(log_bytes, path.stat().st_size))
            self._log.seek(0, 2)
        try:
            self._board = _open_board(self._directory / TENSORBOARD, state.total_steps)
            if self._board is None:
                self.note("no TensorBoard logs: pip install 'avsr[train]' for them")
        except OSError as error:
            self.note(f"no TensorBoard logs: {error.strerror}")

    def close(self) -> None:
        """Close the files; errors of a full disk were reported when writing."""
        for file in (self._log, self._board):
            if file is not None:
                with suppress(OSError):
                    file.close()
        self._log = self._board = None

    @property
    def log_bytes(self) -> int:
        """How long the log is."""
        return self._log.tell() if self._log is not None else 0

    def note(self, text: str) -> None:
        """Say something to people."""
        self._on_report(StageNote(self._stage, text))

    def step(
        self, state: StageState, num_steps: int, loss: float, terms: Mapping[str, float], rate: float, num_clips: int
    ) -> None:
        """Log the step that led to ``state``, of an epoch of ``num_steps``: it learnt from ``num_clips``.

        ``terms`` add up to ``loss``; they are for TensorBoard.
        """
        epoch, step = state.epoch + 1, state.step
        self._write({"epoch": epoch, "step": step, "loss": loss, "learning_rate": rate})
        parts = {f"loss_terms/{name}": value for name, value in terms.items()}
        self._scalars({"loss": loss, "learning_rate": rate, **parts}, state.total_steps)
        now_s = time.monotonic()
        took_s, self._stepped_s = now_s - self._stepped_s, now_s
        self._step_s = took_s if self._step_s is None else SMOOTHING * self._step_s + (1 - SMOOTHING) * took_s
        steps_left = (self._num_epochs - state.epoch) * num_steps - step
        self._show(
            StageProgress(
                self._stage,
                epoch,
                self._num_epochs,
                step,
                num_steps,
                state.loss_sum / step,
                rate,
                num_clips / max(1e-9, self._step_s),
                steps_left * self._step_s,
                self._scores,
            )
        )

    def epoch(self, record: Mapping[str, float], scores: Mapping[str, float], total_steps: int) -> None:
        """Log the end of an epoch; ``scores`` is empty where nothing was validated."""
        self._write({**record, **scores})
        self._scalars(scores, total_steps)
        self._scores = scores or self._scores
        if self._shown is not None:
            self._show(replace(self._shown, scores=self._scores))
        self.note("  ".join(f"{name} {value:.4g}" for name, value in {**record, **scores}.items()))
        self._stepped_s = time.monotonic()

    def _show(self, progress: StageProgress) -> None:
        self._shown = progress
        self._on_report(progress)

    def _write(self, record: Mapping[str, float]) -> None:
        if self._log is not None:
            with writing(Path(self._log.name)):
                self._log.write(json.dumps(record).encode() + b"\n")
                self._log.flush()

    def _scalars(self, values: Mapping[str, float], total_steps: int) -> None:
        if self._board is not None:
            try:
                for name, value in values.items():
                    self._board.add_scalar(name, value, total_steps)
            except OSError as error:  # of the writer's thread, which has ended with it
                self._board = None
                self.note(f"no TensorBoard logs any more: {error.strerror}")


def _open_board(directory: Path, num_steps: int) -> Any:
    """Return a writer for TensorBoard, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What a killed run wrote after its checkpoint is hidden.
    return SummaryWriter(str(directory), purge_step=num_steps + 1)
