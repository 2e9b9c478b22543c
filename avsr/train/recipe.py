"""What a training run is made of, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from avsr.bundle import MAX_BYTES, WEIGHTS_FILE
from avsr.config import BundleConfig, DecodeConfig, ModelConfig, Name, Section, SizesConfig
from avsr.model import AvsrModel
from avsr.train.augment.examples import AugmentConfig
from avsr.train.ngram import LmConfig
from avsr.types import TICK_MS

RECIPES = Path(__file__).parent / "recipes"
Branch = Literal["audio", "video", "fusion"]
INDEPENDENT_BRANCHES: tuple[Branch, ...] = ("audio", "video")
"""The branches that are trained before fusion, independently of each other."""
FP16_BYTES = 2
"""What a weight takes in a bundle."""


class StageConfig(Section):
    """One stage of training: its length, optimisation, data and augmentation. 0 ``epochs`` leaves the branch unchanged.

    Optimisation:
        batch_size: clips per optimiser step, over all processes together; so a recipe means the same on one machine and
            on many (see `Machine`).
        accumulate: into how many parts each process divides its share of a step, to save memory.
        learning_rate, schedule, warmup_epochs: the peak rate, how it changes after the warm-up, and the warm-up.
        max_gradient_norm: gradients are clipped to it.
        alignment_weight: weight of a loss that pulls each branch's output towards the fused one (fusion only; 0: off).
        left_context_low_ticks: every step draws a chunk size; with this, also a left context, from this up to the
            model's own. None: always the model's own, as in streams.

    Choice of the weights:
        validate_every: epochs between validations on the dev clips; the last epoch always has one.
        ema_decay: validate and keep an exponential moving average of the weights (0: off).
        average_last: at the end, also try the mean of the weights after each of the last so many epochs (0: off).
        patience: end the stage after so many validations without a better dev word error rate, and keep the weights
            that had the best (0: off).

    Data, as the mean number of times that a clip occurs in an epoch; for clips of the table it is 1:
        talker_repeat, voice_repeat, speech_repeat: synthetic clips, synthetic sentences without video, recordings
            without video.
        speaker_balance: 0 takes each clip of the table once, 1 gives all speakers the same share, 0.5 is in between.
    """

    epochs: int = Field(ge=0)
    batch_size: int = Field(16, gt=0)
    accumulate: int = Field(1, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "noam", "constant"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    max_gradient_norm: float = Field(5.0, gt=0)
    validate_every: int = Field(5, gt=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    average_last: int = Field(0, ge=0)
    patience: int = Field(0, ge=0)
    left_context_low_ticks: int | None = Field(None, ge=0)
    alignment_weight: float = Field(0.0, ge=0)
    talker_repeat: float = Field(0.5, ge=0)
    voice_repeat: float = Field(0.5, ge=0)
    speech_repeat: float = Field(0.2, ge=0)
    speaker_balance: float = Field(0.0, ge=0, le=1)
    seed: int = Field(1, ge=0)
    augment: AugmentConfig = AugmentConfig()


class RecipeConfig(Section):
    """A recipe: corpora, tokenizer, network sizes and three stages.

    The audio and the lip branch are trained first, independently and in parallel; then fusion is trained together with
    both, under noise and with senses missing.

    Attributes:
        table: the clips. ``speech``: recordings without video, for more voices and words.
        num_talkers: synthetic clips. ``num_voices``: synthetic sentences without video, which are much cheaper.
        voice_texts: text files, a sentence a line, that the voices read; without any, they say GRID sentences.
        vocab_size: pieces of the tokenizer, which is trained on all transcripts of the training clips.
        lm: the n-gram language model of the bundle, if any.
        card: Markdown for the beginning of the model card: data, licences, purpose. Counts and figures are added.
    """

    name: Name
    version: Name
    table: str
    speech: str | None = None
    num_talkers: int = Field(0, ge=0)
    num_voices: int = Field(0, ge=0)
    voice_texts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    vocab_size: int = Field(gt=0)
    model: SizesConfig = SizesConfig()
    decode: DecodeConfig = DecodeConfig()
    lm: LmConfig | None = None
    audio: StageConfig
    video: StageConfig
    fusion: StageConfig
    card: str = ""

    @model_validator(mode="after")
    def _learns(self) -> RecipeConfig:
        if not self.fusion.epochs:
            raise ValueError("fusion.epochs is 0; only audio and video can be left as they are")
        if self.video.augment.word_swap_share:
            raise ValueError(
                "video.augment.word_swap_share is not 0; it replaces sound only, and this stage trains lips"
            )
        return self

    @model_validator(mode="after")
    def _fits_a_bundle(self) -> RecipeConfig:
        """Find out now, not after hours of training, that the sizes make no network or no bundle."""
        sizes = self.sizes(self.vocab_size)
        with torch.device("meta"):  # sizes alone: no memory, no time
            weights = AvsrModel(sizes).state_dict().values()
        num_bytes, most_bytes = sum(FP16_BYTES * x.numel() for x in weights), MAX_BYTES[WEIGHTS_FILE]
        if num_bytes > most_bytes:
            raise ValueError(
                f"a network of these sizes has {num_bytes / 1e6:.0f} MB of weights, and a bundle holds at most "
                f"{most_bytes / 1e6:.0f}; lower model.dim, model.ff_mult or the numbers of layers"
            )
        default_ticks = BundleConfig.model_fields["default_chunk_ms"].default // TICK_MS
        if default_ticks not in sizes.chunk_sizes:
            raise ValueError(f"model.chunk_sizes must hold {default_ticks}, the default chunk")
        for branch in (*INDEPENDENT_BRANCHES, "fusion"):
            least, most = self.stage(branch).left_context_low_ticks, sizes.left_context_ticks
            if least is not None and least > most:
                raise ValueError(f"{branch}.left_context_low_ticks is {least}; model.left_context_ticks is {most}")
        return self

    def stage(self, branch: Branch) -> StageConfig:
        """Return the stage that trains ``branch``."""
        return {"audio": self.audio, "video": self.video, "fusion": self.fusion}[branch]

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches that are trained before fusion."""
        return tuple(branch for branch in INDEPENDENT_BRANCHES if self.stage(branch).epochs)

    def sizes(self, vocab_size: int) -> ModelConfig:
        """Return the network's sizes for a tokenizer of ``vocab_size`` pieces."""
        return ModelConfig(vocab_size=vocab_size, **self.model.model_dump())
