"""A whole recipe, from tables of clips to a model bundle. Every step is skipped where its result is already there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from avsr.bundle import LM_FILE, MAX_BYTES, MAX_LM_TEXT_BYTES, SUMS_FILE, Bundle, save_bundle
from avsr.config import BundleConfig, FeatureConfig, dump_config, load_config
from avsr.decode.arpa import read_arpa
from avsr.decode.tokenizer import Tokenizer, train_tokenizer
from avsr.disk import lock, whole_file
from avsr.errors import InputError, TextError
from avsr.train.branches import train_branches
from avsr.train.card import model_card
from avsr.train.gather import (
    CORPUS_PACK,
    DEV_SPLIT,
    NOISE_SPLIT,
    TRAIN_SPLIT,
    VOICE_SPLIT,
    Packs,
    gather_packs,
)
from avsr.train.job import Job, Preprocessing
from avsr.train.machine import Machine
from avsr.train.ngram import LmConfig, gzip_arpa, read_sentences, train_ngrams
from avsr.train.packs.reader import MemoryBudget, PreparedCorpus, fingerprint
from avsr.train.recipe import INDEPENDENT_BRANCHES, RecipeConfig
from avsr.train.statistics import measure_features
from avsr.train.stopping import STOP_PATIENCE_S
from avsr.train.tracking import OnReport, print_notes

TOKENIZER_FILE, FEATURES_FILE = "tokenizer.model", "features.yaml"
RECIPE_FILE, CLIPS_FILE = "recipe.yaml", "clips.json"
USED_SPLITS = (TRAIN_SPLIT, DEV_SPLIT, VOICE_SPLIT, NOISE_SPLIT)


def run_recipe(
    recipe: RecipeConfig,
    data: Path,
    work: Path,
    bundle: Path,
    *,
    start: Bundle | None = None,
    machine: Machine | None = None,
    on_report: OnReport = print_notes,
) -> None:
    """Train ``recipe`` on the corpora under ``data`` and write the bundle; ``work`` keeps everything in between.

    Packs that ``data`` holds are trained from, others are prepared in ``work`` (see `gather_packs`). A run that was
    killed goes on where it was: prepared clips and steps up to the last checkpoint are kept. With ``start`` training
    goes on from a model: its weights, tokenizer and feature statistics.

    Of several processes (``torchrun``) the first alone writes; all of them read the packs.

    Raises:
        InputError: a table or a clip cannot be used, ``work`` belongs to another recipe or was begun with other clips,
            ``bundle`` is taken, ``start`` is of other sizes than the recipe, or needed and not given.
        TextError: the tokenizer cannot spell what is said in a clip.
        KeyboardInterrupt: training was told to stop; the same call resumes it.
    """
    machine = machine or Machine()
    if start is not None and recipe.sizes(start.config.model.vocab_size) != start.config.model:
        raise InputError(
            f"{start.path}: its network sizes differ from the recipe's; set the recipe's model: to its sizes"
        )
    if start is None and recipe.branches != INDEPENDENT_BRANCHES:
        raise InputError(
            "the recipe does not train every branch (epochs: 0), so it needs a model to start from; add --from"
        )
    if bundle.exists() and not (bundle / SUMS_FILE).exists():
        raise InputError(f"{bundle}: exists and is not a model bundle; choose another --output")

    def prepare_work() -> tuple[Packs, Preprocessing, bytes | None]:
        texts = [line for name in recipe.lm.texts for line in read_sentences(data / name)] if recipe.lm else []
        claims.enter_context(lock(work, patience_s=STOP_PATIENCE_S))
        _claim(work, recipe, start)
        packs = gather_packs(recipe, data, work)
        _claim_clips(work, packs)
        lm_bytes = make_lm(recipe.lm, texts, packs) if recipe.lm else None
        preprocessing = make_preprocessing(recipe, packs, work, start)
        _check_spelling(Tokenizer(preprocessing.tokenizer_bytes), packs)
        return packs, preprocessing, lm_bytes

    with ExitStack() as claims:
        packs, preprocessing, lm_bytes = machine.processes.share(prepare_work)
        job = Job(recipe, packs, work, preprocessing, start)
        summaries = train_branches(job, machine, on_report)
        trainer = job.trainer("fusion", machine, on_report)
        trainer.load_branches(*(work / branch for branch in recipe.branches))
        summaries["fusion"] = trainer.run()
        if machine.processes.is_first:
            config = BundleConfig(
                name=recipe.name,
                version=recipe.version,
                model=trainer.model.config,
                features=preprocessing.features,
                decode=recipe.decode,
            )
            card = model_card(recipe, packs, start, summaries)
            save_bundle(bundle, config, trainer.model.state_dict(), preprocessing.tokenizer_bytes, card, lm_bytes)


def make_lm(config: LmConfig, texts: Sequence[str], packs: Packs) -> bytes:
    """Learn the language model of a bundle from what is said in the training clips, and from ``texts``.

    Raises:
        InputError: the model would be larger than a bundle may hold.
    """
    spoken = [clip.text for clip in PreparedCorpus(packs[CORPUS_PACK], MemoryBudget(0)).select(TRAIN_SPLIT)]
    lm_bytes = gzip_arpa(train_ngrams([*spoken, *texts], config))
    pruned = "prune it under lm: in the recipe (min_counts, vocab_size or order), and run the command again to resume"
    if len(lm_bytes) > MAX_BYTES[LM_FILE]:  # said now, not after hours of training
        raise InputError(
            f"the language model would be {len(lm_bytes)} bytes, and a bundle's at most {MAX_BYTES[LM_FILE]}; {pruned}"
        )
    try:
        read_arpa(lm_bytes, max_bytes=MAX_LM_TEXT_BYTES)
    except InputError as error:
        raise InputError(f"no bundle may hold the recipe's language model ({error}); {pruned}") from error
    return lm_bytes


def _has_begun(work: Path) -> bool:
    """Tell whether ``work`` holds more than packs: some of what a stage learnt."""
    return any((work / branch).exists() for branch in (*INDEPENDENT_BRANCHES, "fusion"))


def _claim(work: Path, recipe: RecipeConfig, start: Bundle | None) -> None:
    """Note in ``work`` what is trained, so that nothing else goes on from its half-done results.

    Until a stage begins there are none but packs, which fit any recipe, so that a slip in one can be mended.
    The language model is learnt anew by every run, so that it may change: it is left out. Settings are compared, not
    texts: one that a newer version knows, and that is off, makes no other recipe.
    """
    noted, origin = work / RECIPE_FILE, "" if start is None else f"# from {start.identity}\n"
    text = dump_config(recipe.model_copy(update={"lm": None}))
    try:
        if not _has_begun(work):
            for name in (TOKENIZER_FILE, FEATURES_FILE):
                (work / name).unlink(missing_ok=True)
            noted.write_text(origin + text, encoding="utf-8")
        # A run from nothing has no first line of its own: the settings begin at once.
        is_from_there = noted.read_bytes().startswith((origin or "name:").encode())
    except OSError as error:
        raise InputError(f"{work}: cannot be written to ({error.strerror}); choose another --work") from error
    if not is_from_there or dump_config(load_config(noted, RecipeConfig).model_copy(update={"lm": None})) != text:
        raise InputError(f"{work}: holds the work of another recipe or model ({noted}); choose another --work")


def _claim_clips(work: Path, packs: Packs) -> None:
    """Note in ``work`` what the packs hold: what was learnt from other clips is not gone on with, nor called done."""
    noted = work / CLIPS_FILE
    found = {name: fingerprint(pack, USED_SPLITS) for name, pack in packs.items()}
    if noted.exists() and _has_begun(work):
        try:
            known = dict(json.loads(noted.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{noted}: is damaged ({error}); choose another --work") from error
        if changed := [name for name in found if found[name] != known.get(name)]:
            held = " and ".join(str(packs[name]) for name in changed)
            raise InputError(
                f"{work}: was started with other clips than {held} has now; to train on these, choose another "
                f"--work, or remove {', '.join((*INDEPENDENT_BRANCHES, 'fusion'))} in this one"
            )
    _write(noted, json.dumps(found, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def _check_spelling(tokenizer: Tokenizer, packs: Packs) -> None:
    """Find out now, not after hours of training, that a transcript cannot be learnt."""
    for name, pack in packs.items():
        for clip in PreparedCorpus(pack).select(TRAIN_SPLIT, DEV_SPLIT):
            try:
                tokenizer.encode(clip.text)
            except TextError as error:
                raise TextError(f"{clip.path} ({name}): {error}, or take the clip out of the table") from error


def make_preprocessing(recipe: RecipeConfig, packs: Packs, work: Path, start: Bundle | None) -> Preprocessing:
    """Train the tokenizer and measure the features, or take both from ``start``; keep them in ``work``."""
    tokenizer, features = work / TOKENIZER_FILE, work / FEATURES_FILE
    if start is not None:
        _write(tokenizer, start.tokenizer_bytes)
        _write(features, dump_config(start.config.features).encode())
    elif not (tokenizer.exists() and features.exists()):
        corpus = PreparedCorpus(packs[CORPUS_PACK], MemoryBudget(0))
        clips = corpus.select(TRAIN_SPLIT)
        if not clips:
            raise InputError(f"{packs[CORPUS_PACK]}: no clip is of the split {TRAIN_SPLIT!r}; the table says which are")
        texts = [clip.text for pack in packs.values() for clip in PreparedCorpus(pack).select(TRAIN_SPLIT)]
        _write(tokenizer, train_tokenizer(texts, recipe.vocab_size))
        heard = [clip for clip in clips if corpus.media(clip).heard]
        measured = measure_features(corpus.load(clip).audio for clip in heard[::4])
        _write(features, dump_config(measured).encode())
    return Preprocessing(tokenizer.read_bytes(), load_config(features, FeatureConfig))
