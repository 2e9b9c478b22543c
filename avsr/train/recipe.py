"""What a training run is made of, read from YAML."""

from __future__ import annotations

from typing import Literal

from avsr.config import DecodeConfig, ModelConfig, Section
from avsr.train.augment import AugmentConfig


class StageConfig(Section):
    """One stage: which branch learns, for how long, from what augmentation."""

    branch: Literal["audio", "video", "fusion"]
    epochs: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    validate_every: int = 5
    seed: int = 1
    augment: AugmentConfig = AugmentConfig()


class RecipeConfig(Section):
    """A whole recipe: sizes, tokenizer and the three stages."""

    name: str
    version: str
    vocab_size: int
    model: dict[str, int | float | tuple[int, ...]] = {}
    decode: DecodeConfig = DecodeConfig()
    audio: StageConfig
    video: StageConfig
    fusion: StageConfig

    def model_config_for(self, vocab_size: int) -> ModelConfig:
        """Return the network's sizes for a tokenizer of ``vocab_size`` pieces."""
        return ModelConfig(vocab_size=vocab_size, **self.model)  # type: ignore[arg-type]
