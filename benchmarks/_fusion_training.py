"""Train every kind of fusion side by side, on the same frozen branches.

    clips ─► augment ─► a batch ─► frozen branches ─┬─► gated   ─► fused encoder ─► CTC, SNR estimate
             made once, shared by all kinds         ├─► ungated ─► fused encoder ─► ...
                                                    ├─► fixed   ─► ...
                                                    └─► concat  ─► ...

All kinds get the same number of steps, the same batches and dropout, and the same initial fused encoder and head. Only
the fusion itself differs.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import nn
from torch.nn import functional

from avsr.bundle import Bundle
from avsr.config import FusionKind, dump_config
from avsr.decode.tokenizer import Tokenizer
from avsr.errors import InputError
from avsr.model import AvsrModel
from avsr.nn.attention import Window
from avsr.nn.fusion import SNR_SCALE_DB, FusionOutput
from avsr.train.batch import Batch, Collator
from avsr.train.checkpoint import read_tensors, write_tensors
from avsr.train.gather import CORPUS_PACK, NOISE_PACK, TALKERS_PACK, TRAIN_SPLIT, read_noise
from avsr.train.objective import FORBIDDEN, SNR_LOSS_WEIGHT
from avsr.train.packs.reader import INDEX_FILE, PreparedCorpus
from avsr.train.plan import Source
from avsr.train.recipe import StageConfig
from avsr.train.schedule import learning_rate
from avsr.train.steps import Position, Step, StepMaker

KINDS: tuple[FusionKind, ...] = get_args(FusionKind)
LEARNT = ("fusion", "fused_encoder", "fused_head")
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Trained:
    """The models by kind, and a log entry per epoch: its number, steps, seconds, and each kind's mean loss."""

    models: dict[FusionKind, AvsrModel]
    log: list[dict[str, float]]


def train_fusions(start: Bundle, packs: Path, stage: StageConfig, directory: Path) -> Trained:
    """Train every kind of fusion on the branches of ``start``; resume after the last complete epoch in ``directory``.

    ``packs`` holds ``corpus``, ``noise`` and optionally ``talkers``, as `avsr train` writes them to its work folder.

    Raises:
        InputError: a pack is missing or damaged, or ``directory`` holds the checkpoint of another training run.
    """
    training = _Training(start, packs, stage, directory)
    training.resume()
    while training.epoch < stage.epochs:
        training.run_epoch()
        training.save()
    return Trained(training.models, training.log)


def fuse(
    model: AvsrModel, audio: torch.Tensor, video: torch.Tensor, batch: Batch, window: Window
) -> tuple[FusionOutput, torch.Tensor]:
    """Return the outputs of fusion and of the fused encoder for the branches' features (B, T, dim)."""
    state = model.init_state(len(batch.texts), context_ticks=0)
    heard, visible = batch.chunk.heard & batch.valid, batch.chunk.visible & batch.valid
    fusion, _ = model.fusion.step(audio, video, heard, visible, state.fusion, window)
    fused, _ = model.fused_encoder.step(fusion.fused, batch.valid, state.fused, window)
    return fusion, fused


def fused_loss(
    model: AvsrModel, fusion: FusionOutput, fused: torch.Tensor, batch: Batch, blank_id: int
) -> torch.Tensor:
    """Return the loss: CTC, plus the squared error of the SNR estimate where there is sound."""
    ctc = functional.ctc_loss(
        model.fused_head(fused).log_softmax(-1).masked_fill(~batch.emission, FORBIDDEN).transpose(0, 1),
        batch.targets,
        batch.valid.sum(1),
        batch.target_lengths,
        blank=blank_id,
        zero_infinity=True,
    )
    heard = batch.chunk.heard & batch.valid
    snr_error = (fusion.snr_db - batch.snr_db[:, None]) / SNR_SCALE_DB
    return ctc + SNR_LOSS_WEIGHT * (snr_error.square() * heard).sum() / heard.sum().clamp_min(1)


def num_learnt(model: AvsrModel) -> int:
    """Count the weights that are trained here."""
    return sum(x.numel() for name, x in model.named_parameters() if name.startswith(LEARNT))


class _Training:
    def __init__(self, start: Bundle, packs: Path, stage: StageConfig, directory: Path) -> None:
        self._stage, self._path = stage, directory / CHECKPOINT
        self._made_with = dump_config(stage) + hashlib.sha256(start.weights).hexdigest()
        tokenizer = Tokenizer(start.tokenizer_bytes)
        self._blank_id = tokenizer.blank_id
        collator = Collator(start.config.features, tokenizer)
        noise = read_noise(packs / NOISE_PACK)
        self._steps = StepMaker(_sources(packs, stage), stage, collator, noise, start.config.model)
        self._branches, self.models = _make_models(start, stage.seed)
        self._optimisers = {
            kind: torch.optim.AdamW(
                _learnt(model), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay
            )
            for kind, model in self.models.items()
        }
        self.epoch = 0
        self.log: list[dict[str, float]] = []

    def run_epoch(self) -> None:
        """Run all steps of the next epoch."""
        begun_s, num_steps = time.monotonic(), self._steps.num_steps(self.epoch)
        losses: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        for index in range(num_steps):
            rate = learning_rate(self._stage, self.epoch + (index + 1) / num_steps)
            for kind, loss in self._take(self._steps[Position(self.epoch, index)], rate).items():
                losses[kind] += loss / num_steps
        self.epoch += 1
        record = {"epoch": self.epoch, "steps": num_steps, "seconds": time.monotonic() - begun_s, **losses}
        self.log.append(record)
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()), flush=True)

    def _take(self, step: Step, rate: float) -> dict[FusionKind, float]:
        """Train every kind on one batch; return the losses."""
        (part,) = step.parts
        batch = part.batch
        assert batch is not None
        arguments = batch.chunk, batch.valid, self._branches.init_state(len(batch.texts), 0), step.window
        with torch.no_grad():
            audio = self._branches.encode_audio(*arguments)[0]
            video = self._branches.encode_video(*arguments)[0]
        losses: dict[FusionKind, float] = {}
        for kind, model in self.models.items():
            torch.manual_seed(part.seed)
            loss = fused_loss(model, *fuse(model, audio, video, batch, step.window), batch, self._blank_id)
            losses[kind] = loss.item()
            self._learn(kind, loss, rate)
        return losses

    def _learn(self, kind: FusionKind, loss: torch.Tensor, rate: float) -> None:
        optimiser = self._optimisers[kind]
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(_learnt(self.models[kind]), self._stage.max_gradient_norm)
        optimiser.step()

    def save(self) -> None:
        """Write the checkpoint, atomically."""
        state = {
            "made_with": self._made_with,
            "epoch": self.epoch,
            "log": self.log,
            "models": {kind: model.state_dict() for kind, model in self.models.items()},
            "optimisers": {kind: optimiser.state_dict() for kind, optimiser in self._optimisers.items()},
        }
        write_tensors(self._path, state)

    def resume(self) -> None:
        """Load the checkpoint, if there is one."""
        if not self._path.exists():
            return
        saved = read_tensors(self._path)
        if saved["made_with"] != self._made_with:
            raise InputError(f"{self._path}: another training, or over another model; choose another --work")
        for kind in KINDS:
            self.models[kind].load_state_dict(saved["models"][kind])
            self._optimisers[kind].load_state_dict(saved["optimisers"][kind])
        self.epoch, self.log = saved["epoch"], saved["log"]
        print(f"resumed after epoch {self.epoch}", flush=True)


def _make_models(start: Bundle, seed: int) -> tuple[AvsrModel, dict[FusionKind, AvsrModel]]:
    """Return the frozen branches, and a model of each kind that shares their weights and is new otherwise."""
    weights = start.state_dict()
    branches = AvsrModel(start.config.model).eval()
    branches.load_state_dict(weights)
    known = {name: x for name, x in weights.items() if not name.startswith(LEARNT)}
    models: dict[FusionKind, AvsrModel] = {}
    for kind in KINDS:
        torch.manual_seed(seed)
        model = AvsrModel(start.config.model.model_copy(update={"fusion": kind})).train()
        first = next(iter(models.values()), model).state_dict()
        shared = {name: x for name, x in first.items() if name.startswith(LEARNT[1:])}
        model.load_state_dict(known | shared, strict=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(LEARNT))
        models[kind] = model
    return branches, models


def _learnt(model: AvsrModel) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _sources(packs: Path, stage: StageConfig) -> list[Source]:
    corpus = PreparedCorpus(packs / CORPUS_PACK)
    sources = [Source(corpus, corpus.select(TRAIN_SPLIT))]
    if (packs / TALKERS_PACK / INDEX_FILE).exists():
        talkers = PreparedCorpus(packs / TALKERS_PACK)
        sources.append(Source(talkers, talkers.select(TRAIN_SPLIT), stage.talker_repeat))
    return sources
