"""A whole recipe, from tables of clips to a model bundle. Every step is skipped where its result is already there."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import torch

from avsr.bundle import SUMS_FILE, save_bundle
from avsr.config import BundleConfig, FeatureConfig, dump_config, load_config
from avsr.decode.tokenizer import Tokenizer, train_tokenizer
from avsr.errors import AvsrError, InputError
from avsr.train.augment import NoiseSource
from avsr.train.loop import Source, Trainer
from avsr.train.prepare import prepare, read_noise
from avsr.train.prepared import PreparedCorpus
from avsr.train.recipe import Branch, RecipeConfig
from avsr.train.statistics import measure_features
from avsr.train.talkers import make_talkers

TOKENIZER_FILE, FEATURES_FILE, RECIPE_FILE = "tokenizer.model", "features.yaml", "recipe.yaml"
TRAIN_SPLIT, DEV_SPLIT = "train", "dev"


def run_recipe(recipe: RecipeConfig, data: Path, work: Path, bundle: Path) -> None:
    """Train ``recipe`` on the corpora under ``data`` and write the bundle; ``work`` keeps everything in between.

    A run that was killed goes on where it was: prepared corpora and finished epochs are kept.

    Raises:
        InputError: a table or a clip cannot be used, ``work`` belongs to another recipe, or ``bundle`` is taken.
    """
    if bundle.exists() and not (bundle / SUMS_FILE).exists():
        raise InputError(f"{bundle}: exists and is not a model bundle; choose another --output")
    _claim(work, recipe)
    prepare(data / recipe.table, work / "corpus")
    if recipe.num_talkers:
        prepare(make_talkers(work / "talker_clips", recipe.num_talkers, seed=1), work / "talkers")
    _make_tokenizer_and_features(recipe, work)
    _train_branches_apart(recipe, data, work)
    trainer = _trainer(recipe, "fusion", data, work)
    trainer.load_branches(work / "audio", work / "video")
    network = trainer.run()
    features = load_config(work / FEATURES_FILE, FeatureConfig)
    config = BundleConfig(
        name=recipe.name, version=recipe.version, model=network.config, features=features, decode=recipe.decode
    )
    save_bundle(bundle, config, network.state_dict(), (work / TOKENIZER_FILE).read_bytes(), recipe.card)


def _claim(work: Path, recipe: RecipeConfig) -> None:
    """Note the recipe in ``work``, so that no other one goes on from its half-done results."""
    work.mkdir(parents=True, exist_ok=True)
    noted = work / RECIPE_FILE
    if not noted.exists():
        noted.write_text(dump_config(recipe), encoding="utf-8")
    elif noted.read_text(encoding="utf-8") != dump_config(recipe):
        raise InputError(f"{work}: holds the work of another recipe ({noted}); choose another --work")


def train_branch(recipe: RecipeConfig, branch: Branch, data: Path, work: Path, threads: int) -> None:
    """Train one branch alone in this process."""
    torch.set_num_threads(threads)
    _trainer(recipe, branch, data, work).run()


def _train_branches_apart(recipe: RecipeConfig, data: Path, work: Path) -> None:
    """Both branches at once, each with half of the processors."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 2) // 2)
    branches: tuple[Branch, ...] = ("audio", "video")
    workers = [context.Process(target=train_branch, args=(recipe, branch, data, work, threads)) for branch in branches]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [branch for branch, worker in zip(branches, workers, strict=True) if worker.exitcode]
    if failed:
        raise AvsrError(f"training the branch(es) {', '.join(failed)} failed; the reason is above")


def _make_tokenizer_and_features(recipe: RecipeConfig, work: Path) -> None:
    corpus = PreparedCorpus(work / "corpus")
    clips = corpus.select(TRAIN_SPLIT)
    if not (work / TOKENIZER_FILE).exists():
        (work / TOKENIZER_FILE).write_bytes(train_tokenizer([clip.text for clip in clips], recipe.vocab_size))
    if not (work / FEATURES_FILE).exists():
        features = measure_features(corpus.load(clip).audio for clip in clips[::4])
        (work / FEATURES_FILE).write_text(dump_config(features), encoding="utf-8")


def _trainer(recipe: RecipeConfig, branch: Branch, data: Path, work: Path) -> Trainer:
    stage = recipe.stage(branch)
    tokenizer = Tokenizer((work / TOKENIZER_FILE).read_bytes())
    corpus = PreparedCorpus(work / "corpus")
    sources = [Source(corpus, corpus.select(TRAIN_SPLIT))]
    if recipe.num_talkers and stage.talker_repeat:
        talkers = PreparedCorpus(work / "talkers")
        sources.append(Source(talkers, talkers.select(TRAIN_SPLIT), stage.talker_repeat))
    noise = read_noise(data) if stage.augment.noise_share else NoiseSource([], [])
    return Trainer(
        branch,
        recipe.sizes(tokenizer.vocab_size),
        load_config(work / FEATURES_FILE, FeatureConfig),
        stage,
        tokenizer,
        sources,
        Source(corpus, corpus.select(DEV_SPLIT)),
        noise,
        work / branch,
    )
