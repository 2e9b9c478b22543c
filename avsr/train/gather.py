"""The packs that a recipe trains from: those that are there already, and those that are prepared from tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from avsr.corpora import Utterance, noise_files, read_table
from avsr.errors import InputError
from avsr.train.augment.noise import NoiseSource
from avsr.train.ngram import read_sentences
from avsr.train.packs.prepare import FAILED_FILE, Progress, prepare
from avsr.train.packs.reader import INDEX_FILE, Clip, MemoryBudget, PreparedCorpus
from avsr.train.recipe import RecipeConfig

CORPUS_PACK, TALKERS_PACK, VOICES_PACK, SPEECH_PACK, NOISE_PACK = "corpus", "talkers", "voices", "speech", "noise"
SYNTHETIC = (TALKERS_PACK, VOICES_PACK)
TRAIN_SPLIT, DEV_SPLIT = "train", "dev"
VOICE_SPLIT, NOISE_SPLIT = "babble", "noise"

Packs = dict[str, Path]
"""Directories of packs, by their names."""


def gather_packs(recipe: RecipeConfig, data: Path, work: Path) -> Packs:
    """Return what ``recipe`` trains from: the packs that ``data`` holds; what is missing is made in ``work``.

    A pack is found by its name: ``data/corpus`` as `avsr prepare` left it, ``data/noise`` and so on as an earlier run
    did whose ``work`` is now ``data``. The others are prepared from the tables of ``data`` and kept for the next run;
    of noises and babble voices it is the half that is never tested with. Every table is read before any clip.

    Raises:
        InputError: a table or a pack cannot be used, or none of its clips, or a pack was not finished.
    """
    if (data / INDEX_FILE).exists():
        raise InputError(f"{data}: is a pack itself; name it {CORPUS_PACK!r} and give the directory that it is in")
    needed = _needed(recipe)
    packs = {name: data / name for name in needed if _is_whole(data / name, is_own=data.resolve() == work.resolve())}
    missing = [name for name in needed if name not in packs]
    listed = {name: _listed(name, recipe, data) for name in missing if name not in SYNTHETIC}
    _check_splits(listed[CORPUS_PACK] if CORPUS_PACK in listed else PreparedCorpus(packs[CORPUS_PACK]).clips, data)
    sentences = _voice_sentences(recipe, data) if VOICES_PACK in missing and recipe.voice_texts else []
    for name in missing:
        packs[name] = work / name
        if name in SYNTHETIC:
            _synthesise(name, recipe, sentences, work)
        else:
            prepare(listed[name], data, packs[name], on_progress=_print_progress(name))
    if NOISE_PACK in packs and not PreparedCorpus(packs[NOISE_PACK]).select(VOICE_SPLIT, NOISE_SPLIT):
        raise InputError(f"{packs[NOISE_PACK]}: has no clip of the splits {VOICE_SPLIT!r} and {NOISE_SPLIT!r}")
    return packs


def read_noise(pack: Path) -> NoiseSource:
    """Load the babble voices and noises of a pack."""
    corpus = PreparedCorpus(pack, MemoryBudget(0))
    voices, noises = (
        [corpus.load(clip).audio for clip in corpus.select(split)] for split in (VOICE_SPLIT, NOISE_SPLIT)
    )
    return NoiseSource(voices, [noise for noise in noises if noise.any()])


def _check_splits(clips: Iterable[Utterance | Clip], data: Path) -> None:
    """Find out now, not after hours of preparing, that there is nothing to learn from or to choose by."""
    splits = {clip.split for clip in clips}
    if lacking := [split for split in (TRAIN_SPLIT, DEV_SPLIT) if split not in splits]:
        raise InputError(
            f"{data}: no clip is in the split {' nor '.join(map(repr, lacking))}; the splits are: "
            f"{', '.join(map(repr, sorted(splits))) or 'none'}; in the table's column split, mark the clips to train "
            f"on ({TRAIN_SPLIT}) and those to select weights with ({DEV_SPLIT})"
        )


def _is_whole(pack: Path, *, is_own: bool) -> bool:
    """Tell whether there is a pack. One of our own that is half done is gone on with; another's is left alone."""
    if not (pack / INDEX_FILE).exists():
        return False
    if not is_own and not (pack / FAILED_FILE).exists():
        raise InputError(f"{pack}: is not finished; run the command that prepared it again to resume")
    return (pack / FAILED_FILE).exists()


def _needed(recipe: RecipeConfig) -> list[str]:
    stages = [recipe.stage(branch).augment for branch in (*recipe.branches, "fusion")]
    wants_noises = any(stage.noise_share and stage.noise.needs_recordings for stage in stages)
    needs = {
        CORPUS_PACK: True,
        TALKERS_PACK: recipe.num_talkers > 0,
        VOICES_PACK: recipe.num_voices > 0,
        SPEECH_PACK: recipe.speech is not None,
        NOISE_PACK: wants_noises,
    }
    return [name for name, is_needed in needs.items() if is_needed]


def _listed(name: str, recipe: RecipeConfig, data: Path) -> list[Utterance]:
    """Return the clips of a pack as the tables of ``data`` list them."""
    if name == NOISE_PACK:
        voices, noises = noise_files(data)
        sounds = [Utterance(path, "", VOICE_SPLIT, "", ()) for path in voices]
        return sounds + [Utterance(path, "", NOISE_SPLIT, "", ()) for path in noises]
    if name == SPEECH_PACK and recipe.speech is not None:
        return [utterance for utterance in _table(name, recipe.speech, data) if utterance.split == TRAIN_SPLIT]
    return _table(name, recipe.table, data)


def _table(name: str, file_name: str, data: Path) -> list[Utterance]:
    if data.is_file():
        raise InputError(
            f"{data}: is a file; give a directory that holds packs, such as DATA after `avsr prepare TABLE -o "
            f"DATA/{name}`, or the table {file_name}"
        )
    if not (data / file_name).exists():
        raise InputError(
            f"{data}: holds neither a pack {name!r} nor the table {file_name} to prepare it from; make the pack with "
            f"`avsr prepare TABLE -o {data / name}`"
        )
    return read_table(data / file_name)


def _voice_sentences(recipe: RecipeConfig, data: Path) -> list[str]:
    from avsr.train.talkers import MAX_WORDS, readable_sentences

    lines = [line for text in recipe.voice_texts for line in read_sentences(data / text)]
    if not (sentences := readable_sentences(lines)):
        raise InputError(
            f"{', '.join(recipe.voice_texts)}: of {len(lines)} lines none can be read aloud; synthetic voices read "
            f"English words, at most {MAX_WORDS} in a line, without digits"
        )
    return sentences


def _synthesise(name: str, recipe: RecipeConfig, sentences: Sequence[str], work: Path) -> None:
    """Make and prepare a pack of synthetic clips; voices say ``sentences``, if there are any."""
    from avsr.train import talkers  # it needs PyAV, as all of preparing does, and training does not

    made = work / f"{name}_made"
    if name == TALKERS_PACK:
        number, table = recipe.num_talkers, talkers.make_talkers(made, recipe.num_talkers, seed=1)
    else:
        number, table = recipe.num_voices, talkers.make_voices(made, recipe.num_voices, seed=1, sentences=sentences)
    prepare(read_table(table)[:number], table.parent, work / name, on_progress=_print_progress(name))


def _print_progress(name: str) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.num_done % max(1, progress.num_files // 10) == 0 or progress.num_done == progress.num_files:
            failed = f", {len(progress.failed)} cannot be used" if progress.failed else ""
            print(f"preparing {name}: {progress.num_done} of {progress.num_files}{failed}", flush=True)

    return show
