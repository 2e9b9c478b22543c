"""One run of a recipe, as every stage of it sees it: what is learnt from, and with which weights it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avsr.bundle import Bundle
from avsr.config import FeatureConfig
from avsr.decode.tokenizer import Tokenizer
from avsr.train.augment.noise import NoiseSource
from avsr.train.gather import (
    CORPUS_PACK,
    DEV_SPLIT,
    NOISE_PACK,
    SPEECH_PACK,
    TALKERS_PACK,
    TRAIN_SPLIT,
    VOICES_PACK,
    Packs,
    read_noise,
)
from avsr.train.loop import Trainer
from avsr.train.machine import Machine
from avsr.train.packs.reader import MEMORY_BYTES, Clip, MemoryBudget, PreparedCorpus
from avsr.train.plan import Source
from avsr.train.recipe import Branch, RecipeConfig
from avsr.train.tracking import OnReport


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What all stages have in common: the tokenizer, and the features with their mean and deviation."""

    tokenizer_bytes: bytes
    features: FeatureConfig


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a recipe: what every stage of it needs, here or in a process of its own."""

    recipe: RecipeConfig
    packs: Packs
    work: Path
    preprocessing: Preprocessing
    start: Bundle | None = None

    def trainer(self, branch: Branch, machine: Machine, on_report: OnReport) -> Trainer:
        """Return the trainer of one stage, its weights those of ``start`` if there is one."""
        recipe, packs, stage = self.recipe, self.packs, self.recipe.stage(branch)
        tokenizer = Tokenizer(self.preprocessing.tokenizer_bytes)
        corpus = PreparedCorpus(packs[CORPUS_PACK], MemoryBudget(MEMORY_BYTES // max(1, machine.workers)))
        trainer = Trainer(
            branch,
            recipe.sizes(tokenizer.vocab_size),
            self.preprocessing.features,
            stage,
            tokenizer,
            self.sources(branch, corpus),
            Source(corpus, corpus.select(DEV_SPLIT)),
            read_noise(packs[NOISE_PACK]) if NOISE_PACK in packs and stage.augment.noise_share else NoiseSource([], []),
            self.work / branch,
            machine,
            on_report,
        )
        if self.start is not None:
            trainer.model.load_state_dict(self.start.state_dict())
        return trainer

    def sources(self, branch: Branch, corpus: PreparedCorpus) -> list[Source]:
        """Return what a stage learns from; pictures are learnt from nothing but pictures.

        All packs share the memory budget of ``corpus``, in each worker as well, which gets a copy of both.
        """
        recipe, stage = self.recipe, self.recipe.stage(branch)
        sources = balanced_sources(corpus, stage.speaker_balance)
        if recipe.num_talkers and stage.talker_repeat:
            talkers = PreparedCorpus(self.packs[TALKERS_PACK], corpus.budget)
            sources.append(Source(talkers, talkers.select(TRAIN_SPLIT), stage.talker_repeat))
        for pack, is_there, repeat in (
            (VOICES_PACK, recipe.num_voices > 0, stage.voice_repeat),
            (SPEECH_PACK, recipe.speech is not None, stage.speech_repeat),
        ):
            if branch != "video" and is_there and repeat:
                heard = PreparedCorpus(self.packs[pack], corpus.budget)
                sources.append(Source(heard, heard.select(TRAIN_SPLIT), repeat))
        return sources


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
