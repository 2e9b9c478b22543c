"""A tiny network on the toy clips, trained here, or by ``train`` in a process that can be killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from stand_ins import tiny_sizes
from toy_clips import WORDS

from avsr.config import FeatureConfig
from avsr.decode import Tokenizer, train_tokenizer
from avsr.train.augment.examples import AugmentConfig
from avsr.train.augment.noise import NoiseSource
from avsr.train.checkpoint import read_tensors
from avsr.train.loop import CHECKPOINT, WEIGHTS, Trainer
from avsr.train.machine import Machine, open_machine
from avsr.train.packs.reader import PreparedCorpus
from avsr.train.plan import Source
from avsr.train.recipe import Branch, StageConfig
from avsr.train.tracking import LOG_FILE, OnReport, print_notes
from avsr.types import NUM_MELS

CALM = {
    "lip_shift_px": 0.0,
    "lip_zoom": 0.0,
    "lip_roll_deg": 0.0,
    "lip_mirror_share": 0.0,
    "lip_gain": 0.0,
    "gain_db": 1.0,
}
MakeTrainer = Callable[..., Trainer]
DEFAULTS: dict[str, Any] = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "warmup_epochs": 0.5}
FEATURES = FeatureConfig(mel_mean=(-6.0,) * NUM_MELS, mel_std=(3.0,) * NUM_MELS)


def toy_tokenizer() -> Tokenizer:
    """A few whole words, and letters."""
    return Tokenizer(train_tokenizer([" ".join(WORDS)] * 4, 48))


def toy_trainer(
    corpus: PreparedCorpus,
    directory: Path,
    branch: Branch,
    machine: Machine | None = None,
    on_report: OnReport = print_notes,
    dropout: float = 0.1,
    augment: dict[str, Any] | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer of 8 clips, and of 2 more every other epoch."""
    tokenizer = toy_tokenizer()
    stage = StageConfig.model_validate(
        DEFAULTS | {"augment": AugmentConfig.model_validate(CALM | (augment or {}))} | settings
    )
    return Trainer(
        branch,
        tiny_sizes(tokenizer.vocab_size).model_copy(update={"dropout": dropout}),
        FEATURES,
        stage,
        tokenizer,
        [Source(corpus, corpus.select("train")), Source(corpus, corpus.select("dev")[:2], repeat=0.5)],
        Source(corpus, corpus.select("dev")),
        NoiseSource([], []),
        directory,
        machine,
        on_report,
    )


def weights(directory: Path, file: str = WEIGHTS) -> dict[str, torch.Tensor]:
    """All weights of a finished stage, or of a checkpoint, by name."""
    saved = read_tensors(directory / file)
    return {f"{part}.{name}": x for part in ("model", "frame_heads") for name, x in saved[part].items()}


def checkpoint(directory: Path) -> dict[str, Any]:
    return read_tensors(directory / CHECKPOINT)


def log(directory: Path) -> list[dict[str, float]]:
    """The lines of the log, without what they took."""
    lines = [json.loads(line) for line in (directory / LOG_FILE).read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def epochs(directory: Path) -> list[dict[str, float]]:
    return [line for line in log(directory) if "step" not in line]


def same_weights(one: Path, other: Path) -> bool:
    """Say whether two finished stages came to the same, bit for bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def train(pack: Path, jobs: Sequence[tuple[str, Branch, dict[str, Any]]]) -> None:
    """Train each of ``jobs``, a directory, a branch and settings, by as many processes as torchrun started."""
    torch.set_num_threads(1)
    with open_machine("cpu") as machine:
        machine = replace(machine, checkpoint_every_s=0.0)
        for directory, branch, settings in jobs:
            toy_trainer(PreparedCorpus(pack), Path(directory), branch, machine, **settings).run()
