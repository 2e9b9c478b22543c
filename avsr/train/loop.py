"""The training loop: one stage of a recipe, on one process or many, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avsr.config import FeatureConfig, ModelConfig
from avsr.decode.tokenizer import Tokenizer
from avsr.disk import lock
from avsr.errors import AvsrError, InputError
from avsr.model import AvsrModel
from avsr.train.augment.noise import NoiseSource
from avsr.train.averaging import MovingAverage, average_weights
from avsr.train.batch import Collator
from avsr.train.checkpoint import read_tensors, write_tensors
from avsr.train.machine import Machine
from avsr.train.objective import Objective, count_terms
from avsr.train.plan import Source
from avsr.train.recipe import Branch, StageConfig
from avsr.train.schedule import learning_rate
from avsr.train.steps import Position, Step, StepMaker, make_steps
from avsr.train.stopping import STOP_PATIENCE_S, StopRequest
from avsr.train.tracking import OnReport, StageState, Tracker, print_notes
from avsr.train.validation import SCORED, Validator
from avsr.types import TICK_S

CHECKPOINT = "checkpoint.pt"
"""The state from which an interrupted stage resumes."""
WEIGHTS = "weights.pt"
"""The result of a finished stage: weights and summary."""
BEST = "best.pt"


@dataclass(frozen=True, slots=True)
class StageSummary:
    """A finished stage: it trained on ``hours`` of clips and kept the ``chosen`` weights, with these dev ``scores``."""

    epochs: int
    steps: int
    hours: float
    chosen: str
    scores: dict[str, float]


class Trainer:
    """Trains one stage: the audio branch, the lip branch, or everything.

    ``run`` keeps a checkpoint in ``directory`` and resumes from it, to the very same weights: the data of a step depend
    on nothing but the seed, the epoch and the step (``avsr.train.plan``). On a GPU, where the order of sums is not
    fixed, they may differ by rounding.

    With several processes each computes a share of every step. Batch normalisation sees only the pictures of its own
    process, hundreds of them; its running statistics are averaged over the processes.

    Raises:
        InputError: there is nothing to learn from, or no dev clip has words.
    """

    def __init__(
        self,
        branch: Branch,
        model_config: ModelConfig,
        features: FeatureConfig,
        stage: StageConfig,
        tokenizer: Tokenizer,
        sources: list[Source],
        dev: Source,
        noise: NoiseSource,
        directory: Path,
        machine: Machine | None = None,
        on_report: OnReport = print_notes,
    ) -> None:
        if not any(source.clips for source in sources):
            raise InputError("there are no clips to train from; the table needs rows whose split is train")
        if not any(clip.text.split() for clip in dev.clips):
            raise InputError("there are no dev clips with words; the table needs rows whose split is dev")
        self._machine = machine or Machine()
        self._processes = self._machine.processes
        self._branch, self._stage, self._directory = branch, stage, directory
        torch.manual_seed(stage.seed)
        network = AvsrModel(model_config).to(self._machine.device)
        self._objective = Objective(branch, network, tokenizer.blank_id, stage.alignment_weight).to(network.device)
        collator = Collator(features, tokenizer)
        self._maker = StepMaker(
            sources,
            stage,
            collator,
            noise,
            model_config,
            self._processes.rank,
            self._processes.count,
        )
        seen = {clip.speaker for source in sources if source.repeat for clip in source.clips}
        self._validate = Validator(dev, seen, collator, tokenizer, self._machine)
        self._tracker = Tracker(branch, stage.epochs, directory if self._processes.is_first else None, on_report)
        self._state = StageState()

    @property
    def model(self) -> AvsrModel:
        """The network that is trained."""
        return self._objective.model

    def load_branches(self, *directories: Path) -> None:
        """Take over each trained branch from an earlier stage's directory.

        Raises:
            InputError: an earlier stage is not finished, or its file is damaged.
        """
        for directory in directories:
            saved = self._processes.share(partial(read_tensors, directory / WEIGHTS))
            self._objective.load(saved, saved["branch"])

    def run(self) -> StageSummary:
        """Train to the stage's end, as far as it is not done; ``model`` then has the weights that were chosen.

        Raises:
            InputError: the directory holds another network's checkpoint, is in use, or cannot be written to.
            AvsrError: the loss is no number any more.
            KeyboardInterrupt: training was told to stop; the directory holds everything up to here.
        """
        if summary := self._processes.share(lambda: finished_summary(self._directory)):
            self._load(WEIGHTS, self._read(WEIGHTS))
            return summary
        with ExitStack() as stack:
            if self._processes.is_first:
                stack.enter_context(lock(self._directory, patience_s=STOP_PATIENCE_S))
            stop = stack.enter_context(StopRequest())
            stack.callback(self._tracker.close)
            stack.callback(self._unwrap)
            self._begin()
            self._learn(stop)
            summary = self._finish()
            if self._processes.sum(torch.tensor(int(stop.is_asked()))).item():
                raise KeyboardInterrupt  # asked after the last step: what comes after this stage is not begun
            return summary

    def _begin(self) -> None:
        """Make what a stage needs besides its weights, and go on from the checkpoint where there is one."""
        stage, objective = self._stage, self._objective
        self._optimiser = torch.optim.AdamW(
            objective.trained_parameters(),
            lr=stage.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=stage.weight_decay,
            fused=self._machine.is_gpu,
        )
        self._average = MovingAverage(objective, stage.ema_decay) if stage.ema_decay else None
        path = self._directory / CHECKPOINT
        saved = self._processes.share(lambda: read_tensors(path) if path.exists() else None)
        if saved is not None:
            self._load(CHECKPOINT, saved)
            self._optimiser.load_state_dict(saved["optimiser"])
            if self._average is not None:
                self._average.objective.load(saved["average"])
            self._state = StageState(**saved["standing"])
        state = self._state
        self._tracker.open(saved["log_bytes"] if saved else 0, state)
        if saved is not None:
            self._tracker.note(f"resumed after {state.epoch} epochs and {state.step} steps")
        self._saved_s = time.monotonic()
        self._compute: Callable[..., torch.Tensor] = (
            objective if self._processes.count == 1 else DistributedDataParallel(objective, broadcast_buffers=False)
        )

    def _unwrap(self) -> None:
        """Drop the DDP wrapper, which would keep the process group from being destroyed."""
        self._compute = self._objective

    def _load(self, name: str, saved: dict[str, Any]) -> None:
        try:
            self._objective.load(saved)
        except (RuntimeError, KeyError) as error:
            where = self._directory / name
            raise InputError(f"{where}: holds a network of other sizes; train with another --work") from error

    def _learn(self, stop: StopRequest) -> None:
        state = self._state
        if state.step and state.step == self._maker.num_steps(state.epoch):
            self._end_epoch()  # the run that went before was stopped while it validated
        if self._is_over():
            return
        self._objective.train()
        first = Position(state.epoch, state.step)
        begun_s = time.monotonic() - state.seconds
        for step in make_steps(self._maker, first, workers=self._machine.workers):
            self._take(step, stop)
            state.seconds = time.monotonic() - begun_s
            if state.step == step.num_steps:
                if self._is_validation_epoch():
                    self._save()
                self._end_epoch()
                if self._is_over():
                    return
                begun_s = time.monotonic()
            elif time.monotonic() - self._saved_s >= self._machine.checkpoint_every_s:
                self._save()

    def _is_over(self) -> bool:
        stage, state = self._stage, self._state
        return state.epoch >= stage.epochs or 0 < stage.patience <= state.num_worse

    def _is_validation_epoch(self) -> bool:
        """Whether the epoch in progress ends with a validation."""
        done = self._state.epoch + 1
        return done % self._stage.validate_every == 0 or done == self._stage.epochs

    def _take(self, step: Step, stop: StopRequest) -> None:
        """Take one optimiser step, all processes together."""
        stage, state, processes = self._stage, self._state, self._processes
        counts = self._count(step, stop)
        if counts["stopped"]:
            self._save()
            raise KeyboardInterrupt

        rate = learning_rate(stage, state.epoch + (state.step + 1) / step.num_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        terms = torch.zeros(len(self._objective.terms), device=self._machine.device)
        for index, part in enumerate(step.parts):
            torch.manual_seed(part.seed)
            batch = None if part.batch is None else part.batch.to(self._machine.device)
            with self._defer_sync(index, len(step.parts)):
                with self._machine.autocast():
                    part_terms = self._compute(batch, step.window, counts)
                # DDP averages gradients over the processes; ours are shares that must add up.
                (part_terms.sum() * processes.count).backward()  # type: ignore[no-untyped-call]
            terms += part_terms.detach()
        norm = nn.utils.clip_grad_norm_(self._objective.trained_parameters(), stage.max_gradient_norm)
        self._optimiser.step()
        processes.average_in_place(self._objective.running_statistics())

        terms = processes.sum(terms.cpu())
        step_loss, gradient_norm = terms.sum().item(), norm.item()
        if not (math.isfinite(step_loss) and math.isfinite(gradient_norm)):
            raise AvsrError(
                f"{self._branch}: epoch {state.epoch + 1}, step {state.step + 1}: the loss is {step_loss:g}, the "
                f"norm of its gradient {gradient_norm:g}; train with a lower learning_rate, in another --work"
            )
        state.loss_sum += step_loss
        state.ticks += int(counts["ticks"])
        state.step += 1
        state.total_steps += 1
        if self._average is not None:
            self._average.update(self._objective, state.total_steps)
        named = dict(zip(self._objective.terms, terms.tolist(), strict=True))
        self._tracker.step(state, step.num_steps, step_loss, named, rate, int(counts["clips"]))

    def _count(self, step: Step, stop: StopRequest) -> dict[str, float]:
        """Count what all processes together learn from in ``step``, and how many of them were told to stop."""
        counted = [count_terms(self._branch, part.batch) for part in step.parts]
        own = {name: sum(count[name] for count in counted) for name in counted[0]} | {"stopped": int(stop.is_asked())}
        totals = self._processes.sum(torch.tensor(list(own.values()), dtype=torch.float64))
        return dict(zip(own, totals.tolist(), strict=True))

    def _defer_sync(self, index: int, num_parts: int) -> AbstractContextManager[Any]:
        """Let gradients add up in this process until the last part of a step."""
        if isinstance(self._compute, DistributedDataParallel) and index + 1 < num_parts:
            return self._compute.no_sync()
        return nullcontext()

    @property
    def _candidate(self) -> Objective:
        """What is validated and kept: the moving average where there is one."""
        return self._objective if self._average is None else self._average.objective

    def _end_epoch(self) -> None:
        stage, state = self._stage, self._state
        begun_s = time.monotonic()
        scores = self._validate(self._candidate) if self._is_validation_epoch() else {}
        seconds = state.seconds + time.monotonic() - begun_s
        record = {"epoch": state.epoch + 1, "loss": state.loss_sum / state.step, "seconds": seconds}
        state.epoch, state.step, state.loss_sum, state.seconds = state.epoch + 1, 0, 0.0, 0.0
        state.scores = scores or state.scores
        if scores:
            self._compare(scores)
        if stage.average_last:
            self._write(_epoch_file(state.epoch), dict(self._candidate.weights()))
        self._tracker.epoch(record, scores, state.total_steps)
        self._save()
        if self._processes.is_first and stage.average_last:
            for epoch in range(state.epoch - stage.average_last, 0, -1):
                path = self._directory / _epoch_file(epoch)
                if not path.exists():
                    break
                path.unlink()

    def _compare(self, scores: dict[str, float]) -> None:
        """Compare with the best scores so far; of equally good weights, the latest are kept."""
        state, scored = self._state, SCORED[self._branch]
        best = state.best_scores
        state.num_worse = 0 if best is None or scores[scored] < best[scored] else state.num_worse + 1
        if best is None or scores[scored] <= best[scored]:
            state.best_scores, state.best_epoch = scores, state.epoch
            if self._stage.patience:
                self._write(BEST, dict(self._candidate.weights()))

    def _finish(self) -> StageSummary:
        """Choose the final weights, load them and write `WEIGHTS`."""
        stage, state, scored = self._stage, self._state, SCORED[self._branch]
        chosen, scores = f"after epoch {state.epoch}", state.scores
        weights = deepcopy(self._candidate.weights())
        if stage.patience and state.best_scores is not None and state.best_epoch != state.epoch:
            chosen, scores = f"best, after epoch {state.best_epoch}", state.best_scores
            weights = self._read(BEST)
        epochs = range(max(1, state.epoch - stage.average_last + 1), state.epoch + 1)
        if stage.average_last and len(epochs) > 1:
            mean = average_weights([self._read(_epoch_file(epoch)) for epoch in epochs])
            self._objective.load(mean)
            found = self._validate(self._objective)
            is_better = found[scored] < scores[scored]
            self._tracker.note(
                f"the mean of the last {len(epochs)} epochs: {scored} {found[scored]:.4g}, "
                f"{'kept' if is_better else 'not kept'} ({chosen}: {scores[scored]:.4g})"
            )
            if is_better:
                chosen, scores, weights = f"mean after epochs {epochs[0]} to {epochs[-1]}", found, mean
        self._objective.load(weights)
        summary = StageSummary(state.epoch, state.total_steps, state.ticks * TICK_S / 3600, chosen, scores)
        self._write(WEIGHTS, {"branch": self._branch, **weights, "summary": asdict(summary)})
        if self._processes.is_first:
            for path in (self._directory / BEST, *(self._directory / _epoch_file(epoch) for epoch in epochs)):
                path.unlink(missing_ok=True)
        return summary

    def _save(self) -> None:
        self._write(
            CHECKPOINT,
            {
                **self._objective.weights(),
                "optimiser": self._optimiser.state_dict(),
                "average": None if self._average is None else self._average.objective.weights(),
                "standing": asdict(self._state),
                "log_bytes": self._tracker.log_bytes,
            },
        )
        self._saved_s = time.monotonic()

    def _write(self, name: str, values: dict[str, Any]) -> None:
        if self._processes.is_first:
            write_tensors(self._directory / name, values)

    def _read(self, name: str) -> dict[str, Any]:
        return self._processes.share(lambda: read_tensors(self._directory / name))


def finished_summary(directory: Path) -> StageSummary | None:
    """Return the summary of the stage in ``directory``; None if it is not finished."""
    path = directory / WEIGHTS
    return StageSummary(**read_tensors(path)["summary"]) if path.exists() else None


def _epoch_file(epoch: int) -> str:
    return f"epoch-{epoch:04d}.pt"
