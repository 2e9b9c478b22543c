"""A recipe of a tiny network, and packs of the toy clips for it."""

from __future__ import annotations

from pathlib import Path

from stand_ins import tiny_sizes
from toy_clips import WORDS
from toy_training import FEATURES

from avsr.decode import train_tokenizer
from avsr.train.job import Job, Preprocessing
from avsr.train.recipe import RecipeConfig

SIZES = tiny_sizes(1)


def recipe_of(**changes: object) -> RecipeConfig:
    """One epoch a stage, of clips one by one, fusion under noise; ``changes`` are sections as in YAML."""
    sizes = {name: value for name, value in SIZES.model_dump().items() if name != "vocab_size"}
    stages = {branch: {"epochs": 1, "batch_size": 1} for branch in ("audio", "video", "fusion")}
    stages["fusion"]["augment"] = {"noise_share": 1.0}
    return RecipeConfig.model_validate(
        {"name": "toy", "version": "1", "table": "toy.tsv", "vocab_size": 44, "model": sizes, "card": "# toy\n"}
        | stages
        | changes
    )


def toy_job(pack: Path, directory: Path, recipe: RecipeConfig) -> Job:
    """Return the job of ``recipe`` on the toy clips of ``pack``, all of it under ``directory``."""
    packs = {"corpus": pack, "noise": directory / "noise"}
    return Job(recipe, packs, directory, Preprocessing(train_tokenizer([" ".join(WORDS)] * 4, 48), FEATURES))
