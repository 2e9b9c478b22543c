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
    """One stage: for how long and how a branch learns, and from what augmentation.

    No ``epochs``: the branch stays as it is in the model that training goes on from.

    Steps. ``batch_size`` clips make an optimiser step, over all processes together: a recipe means the same on one
    machine and on many (see `Machine`). Each process computes its share in ``accumulate`` parts, which takes less
    memory. Gradients are cut to the norm ``max_gradient_norm``. The rate rises for ``warmup_epochs`` to
    ``learning_rate``, then follows ``schedule``.

    What is kept. Every ``validate_every`` epochs, and at the end, the dev clips are read. ``ema_decay`` (0: off)
    validates and keeps an exponential moving average of the weights. ``average_last`` (0: off) also tries, at the end,
    the mean of the weights after each of so many last epochs, and keeps it if it reads the dev clips better.
    ``patience`` (0: off) ends the stage after so many validations without a better dev word error rate, and keeps the
    weights that had the best one.

    Sources. ``talker_repeat`` is how often each synthetic clip comes in an epoch, ``voice_repeat`` each synthetic
    sentence without a picture, ``speech_repeat`` each recording without one. Real clips come once on the average:
    ``speaker_balance`` 0 takes each once, 1 gives every speaker the same share of the epoch, 0.5 goes half the way.

    What attention sees. Each step draws one of the model's chunks. With ``left_context_low_ticks`` it draws its left
    context, too, from so few ticks up to the model's own; without, all of it is seen, as by streams.

    ``alignment_weight`` (fusion only, 0: off) pulls what each sense alone reads towards what both together read.
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
    """A whole recipe: the corpora, the tokenizer, the network's sizes and the three stages.

    ``table`` lists the clips, ``speech`` recordings without a picture that teach the ear more voices and more words.
    ``num_talkers`` synthetic clips and ``num_voices`` sentences without a picture, which are cheaper, say more of the
    GRID grammar; the latter read ``voice_texts`` instead if there are any: files of sentences, one a line.

    The audio and the lip branch are trained independently, on clean input, and at the same time; then fusion is trained
    with both, under noise and with senses missing. ``lm`` adds a language model of words to the bundle. ``card`` begins
    the model card, in Markdown: whose the clips are, under which licences, what the model is for. Counts and figures
    are added.
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
                "video.augment.word_swap_share is not 0; only sound is lent, and the lips learn from pictures"
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
