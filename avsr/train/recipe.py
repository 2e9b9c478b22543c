"""What a training run is made of, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from avsr.config import BundleConfig, DecodeConfig, ModelConfig, Name, Section
from avsr.train.augment import AugmentConfig
from avsr.types import TICK_MS

RECIPES = Path(__file__).parent / "recipes"
Branch = Literal["audio", "video", "fusion"]


class StageConfig(Section):
    """One stage: for how long a branch learns, and from what augmentation.

    ``talker_repeat`` is how often each synthetic clip comes in an epoch, ``speech_repeat`` each recording without a
    picture. Real clips come once on the average: ``speaker_balance`` 0 takes each once, 1 gives every speaker the same
    share of the epoch, 0.5 goes half the way.
    """

    epochs: int = Field(gt=0)
    batch_size: int = Field(16, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    validate_every: int = Field(5, gt=0)
    talker_repeat: float = Field(0.5, ge=0)
    speech_repeat: float = Field(0.2, ge=0)
    speaker_balance: float = Field(0.0, ge=0, le=1)
    seed: int = 1
    augment: AugmentConfig = AugmentConfig()


class RecipeConfig(Section):
    """A whole recipe: the corpora, the tokenizer, the network's sizes and the three stages.

    ``table`` lists the clips, ``speech`` recordings without a picture that teach the ear more voices and more words.
    The audio and the lip branch learn apart, on clean input, and at the same time; then fusion learns with both, under
    noise and with senses missing. ``card`` is the model card: what was learnt from, under which licences.
    """

    name: Name
    version: Name
    table: str
    speech: str | None = None
    num_talkers: int = Field(0, ge=0)
    vocab_size: int = Field(gt=0)
    model: dict[str, Any] = Field(default_factory=dict)
    decode: DecodeConfig = DecodeConfig()
    audio: StageConfig
    video: StageConfig
    fusion: StageConfig
    card: str

    @model_validator(mode="after")
    def _fits_a_bundle(self) -> RecipeConfig:
        """Find out now, not after hours of training, that the sizes make no network or no bundle."""
        default_ticks = BundleConfig.model_fields["default_chunk_ms"].default // TICK_MS
        if default_ticks not in self.sizes(self.vocab_size).chunk_sizes:
            raise ValueError(f"model.chunk_sizes must hold {default_ticks}, the default chunk")
        return self

    def stage(self, branch: Branch) -> StageConfig:
        """Return the stage that trains ``branch``."""
        return {"audio": self.audio, "video": self.video, "fusion": self.fusion}[branch]

    def sizes(self, vocab_size: int) -> ModelConfig:
        """Return the network's sizes for a tokenizer of ``vocab_size`` pieces."""
        return ModelConfig.model_validate({**self.model, "vocab_size": vocab_size})
