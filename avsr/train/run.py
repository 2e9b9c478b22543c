"""A whole recipe, from tables of clips to a model bundle. Every step is skipped where its result is already there."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import torch

from avsr.bundle import SUMS_FILE, Bundle, save_bundle
from avsr.config import BundleConfig, FeatureConfig, dump_config, load_config
from avsr.corpora import Utterance, noise_files, read_table
from avsr.decode.tokenizer import Tokenizer, train_tokenizer
from avsr.errors import AvsrError, InputError
from avsr.train.loop import Source, Trainer
from avsr.train.noise import NoiseSource
from avsr.train.prepare import Progress, prepare
from avsr.train.prepared import INDEX_FILE, Clip, PreparedCorpus
from avsr.train.recipe import Branch, RecipeConfig
from avsr.train.statistics import measure_features

TOKENIZER_FILE, FEATURES_FILE, RECIPE_FILE = "tokenizer.model", "features.yaml", "recipe.yaml"
CORPUS_PACK, TALKERS_PACK, SPEECH_PACK, NOISE_PACK = "corpus", "talkers", "speech", "noise"
TRAIN_SPLIT, DEV_SPLIT = "train", "dev"
VOICE_SPLIT, NOISE_SPLIT = "babble", "noise"
BRANCHES: tuple[Branch, ...] = ("audio", "video", "fusion")


def run_recipe(recipe: RecipeConfig, data: Path, work: Path, bundle: Path, *, start: Bundle | None = None) -> None:
    """Train ``recipe`` on the corpora under ``data`` and write the bundle; ``work`` keeps everything in between.

    Where ``data`` holds packs (``corpus``, and what the recipe needs of ``talkers`` and ``noise``), as an earlier run
    left them in its ``work``, these are trained from; else the packs are prepared in ``work``. A run that was killed
    goes on where it was: prepared clips and finished epochs are kept. With ``start`` training goes on from a model:
    its weights, tokenizer and feature statistics.

    Raises:
        InputError: a table or a clip cannot be used, ``work`` belongs to another recipe, ``bundle`` is taken, or
            ``start`` is of other sizes than the recipe.
    """
    if start is not None and recipe.sizes(start.config.model.vocab_size) != start.config.model:
        raise InputError(f"{start.path}: its network is of other sizes than the recipe's; give them under model:")
    if bundle.exists() and not (bundle / SUMS_FILE).exists():
        raise InputError(f"{bundle}: exists and is not a model bundle; choose another --output")
    _claim(work, recipe, start)
    packs = data if (data / CORPUS_PACK / INDEX_FILE).exists() else prepare_packs(recipe, data, work)
    _make_tokenizer_and_features(recipe, packs, work, start)
    _train_branches_apart(recipe, packs, work, start)
    trainer = _trainer(recipe, "fusion", packs, work, start)
    trainer.load_branches(work / "audio", work / "video")
    network = trainer.run()
    features = load_config(work / FEATURES_FILE, FeatureConfig)
    config = BundleConfig(
        name=recipe.name, version=recipe.version, model=network.config, features=features, decode=recipe.decode
    )
    save_bundle(bundle, config, network.state_dict(), (work / TOKENIZER_FILE).read_bytes(), recipe.card)


def prepare_packs(recipe: RecipeConfig, data: Path, work: Path) -> Path:
    """Prepare in ``work`` the packs that ``recipe`` trains from, as far as they are not there; return ``work``.

    Of the noises and babble voices it takes the half that is never tested with.

    Raises:
        InputError: a table cannot be used, or none of its clips.
    """
    prepare(read_table(data / recipe.table), data, work / CORPUS_PACK, on_progress=_print_progress(recipe.table))
    if recipe.num_talkers:
        from avsr.train.talkers import make_talkers  # it needs PyAV, as all of preparing does, and training does not

        table = make_talkers(work / "talker_clips", recipe.num_talkers, seed=1)
        prepare(read_table(table), table.parent, work / TALKERS_PACK, on_progress=_print_progress(table.name))
    if recipe.speech is not None:
        spoken = [utterance for utterance in read_table(data / recipe.speech) if utterance.split == TRAIN_SPLIT]
        prepare(spoken, data, work / SPEECH_PACK, on_progress=_print_progress(recipe.speech))
    if any(recipe.stage(branch).augment.noise_share for branch in BRANCHES):
        voices, noises = noise_files(data, "train")
        sounds = [Utterance(path, "", VOICE_SPLIT, "", ()) for path in voices]
        sounds += [Utterance(path, "", NOISE_SPLIT, "", ()) for path in noises]
        prepare(sounds, data, work / NOISE_PACK, on_progress=_print_progress("noise"))
    return work


def _print_progress(name: str) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.num_done % max(1, progress.num_files // 10) == 0 or progress.num_done == progress.num_files:
            failed = f", {len(progress.failed)} cannot be used" if progress.failed else ""
            print(f"preparing {name}: {progress.num_done} of {progress.num_files}{failed}", flush=True)

    return show


def read_noise(pack: Path) -> NoiseSource:
    """Load the babble voices and noises of a pack."""
    corpus = PreparedCorpus(pack, memory_bytes=0)
    voices, noises = (
        [corpus.load(clip).audio for clip in corpus.select(split)] for split in (VOICE_SPLIT, NOISE_SPLIT)
    )
    return NoiseSource(voices, [noise for noise in noises if noise.any()])


def _claim(work: Path, recipe: RecipeConfig, start: Bundle | None) -> None:
    """Note in ``work`` what is trained, so that nothing else goes on from its half-done results."""
    work.mkdir(parents=True, exist_ok=True)
    noted = work / RECIPE_FILE
    text = dump_config(recipe)
    if start is not None:
        text = f"# from {start.config.name} {start.config.version}\n{text}"
    if not noted.exists():
        noted.write_text(text, encoding="utf-8")
    elif noted.read_text(encoding="utf-8") != text:
        raise InputError(f"{work}: holds the work of another recipe or model ({noted}); choose another --work")


def train_branch(
    recipe: RecipeConfig, branch: Branch, packs: Path, work: Path, start: Bundle | None, threads: int
) -> None:
    """Train one branch alone in this process."""
    torch.set_num_threads(threads)
    _trainer(recipe, branch, packs, work, start).run()


def _train_branches_apart(recipe: RecipeConfig, packs: Path, work: Path, start: Bundle | None) -> None:
    """Both branches at once, each with half of the processors."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 2) // 2)
    branches = BRANCHES[:2]
    workers = [
        context.Process(target=train_branch, args=(recipe, branch, packs, work, start, threads)) for branch in branches
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [branch for branch, worker in zip(branches, workers, strict=True) if worker.exitcode]
    if failed:
        raise AvsrError(f"training the branch(es) {', '.join(failed)} failed; the reason is above")


def _make_tokenizer_and_features(recipe: RecipeConfig, packs: Path, work: Path, start: Bundle | None) -> None:
    if start is not None:
        (work / TOKENIZER_FILE).write_bytes(start.tokenizer_bytes)
        (work / FEATURES_FILE).write_text(dump_config(start.config.features), encoding="utf-8")
        return
    corpus = PreparedCorpus(packs / CORPUS_PACK, memory_bytes=0)
    clips = corpus.select(TRAIN_SPLIT)
    if not (work / TOKENIZER_FILE).exists():
        (work / TOKENIZER_FILE).write_bytes(train_tokenizer([clip.text for clip in clips], recipe.vocab_size))
    if not (work / FEATURES_FILE).exists():
        features = measure_features(corpus.load(clip).audio for clip in clips[::4])
        (work / FEATURES_FILE).write_text(dump_config(features), encoding="utf-8")


def _trainer(recipe: RecipeConfig, branch: Branch, packs: Path, work: Path, start: Bundle | None) -> Trainer:
    stage = recipe.stage(branch)
    tokenizer = Tokenizer((work / TOKENIZER_FILE).read_bytes())
    corpus = PreparedCorpus(packs / CORPUS_PACK)
    sources = balanced_sources(corpus, stage.speaker_balance)
    if recipe.num_talkers and stage.talker_repeat:
        talkers = PreparedCorpus(packs / TALKERS_PACK)
        sources.append(Source(talkers, talkers.select(TRAIN_SPLIT), stage.talker_repeat))
    if branch != "video" and recipe.speech is not None and stage.speech_repeat:
        speech = PreparedCorpus(packs / SPEECH_PACK)
        sources.append(Source(speech, speech.select(TRAIN_SPLIT), stage.speech_repeat))
    noise = read_noise(packs / NOISE_PACK) if stage.augment.noise_share else NoiseSource([], [])
    trainer = Trainer(
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
    if start is not None:
        trainer.model.load_state_dict(start.state_dict())
    return trainer


def balanced_sources(corpus: PreparedCorpus, balance: float) -> list[Source]:
    """Return the training clips, a source a speaker, repeated so that rare speakers come more often.

    ``balance`` 0 takes every clip once, 1 every speaker for the same share; the epoch stays as long.
    """
    by_speaker: dict[str, list[Clip]] = {}
    for clip in corpus.select(TRAIN_SPLIT):
        by_speaker.setdefault(clip.speaker, []).append(clip)
    weights = {speaker: len(clips) ** -balance for speaker, clips in by_speaker.items()}
    num_clips = sum(len(clips) for clips in by_speaker.values())
    total = sum(weights[speaker] * len(clips) for speaker, clips in by_speaker.items())
    return [Source(corpus, clips, weights[speaker] * num_clips / total) for speaker, clips in by_speaker.items()]
