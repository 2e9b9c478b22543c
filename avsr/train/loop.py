"""The training loop: one stage of a recipe, resumable after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from avsr.config import FeatureConfig, ModelConfig
from avsr.decode.tokenizer import Tokenizer
from avsr.errors import InputError
from avsr.evaluate.wer import word_error_rate
from avsr.model import AvsrModel
from avsr.nn.fusion import SNR_SCALE_DB, FusionOutput
from avsr.train.augment import Example, augment, swap_lips
from avsr.train.batch import IGNORED, Batch, Collator, of_like_length
from avsr.train.noise import NoiseSource
from avsr.train.prepared import Clip, PreparedCorpus
from avsr.train.recipe import Branch, StageConfig

FRAME_LOSS_WEIGHT = 0.5
BRANCH_LOSS_WEIGHT = 0.3
SNR_LOSS_WEIGHT = 0.1
FORBIDDEN = -1e4
"""Log-probability of writing a token when it may not be written; finite, so that gradients stay so."""
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Source:
    """Clips to learn from; ``repeat`` is how often each comes an epoch (a fraction: that share, chosen anew)."""

    corpus: PreparedCorpus
    clips: list[Clip]
    repeat: float = 1.0


Group = list[tuple[Source, Clip]]


class Trainer:
    """Trains one stage: the audio branch, the lip branch, or everything.

    ``run`` writes a checkpoint (weights, optimiser, epoch, random states) after every epoch and, when its directory
    already holds one, goes on from there.
    """

    def __init__(
        self,
        branch: Branch,
        model_config: ModelConfig,
        features: FeatureConfig,
        stage: StageConfig,
        tokenizer: Tokenizer,
        sources: list[Source],
        dev: Source,
        noise: NoiseSource,
        directory: Path,
    ) -> None:
        torch.manual_seed(stage.seed)
        self._branch, self._stage, self._tokenizer = branch, stage, tokenizer
        self._noise, self._directory = noise, directory
        self._sources, self._dev = sources, dev
        self._collator = Collator(features, tokenizer)
        self.model = AvsrModel(model_config)
        # Frame-wise word labels teach each branch where words are long before CTC finds out; not part of the model.
        self._frame_heads = nn.ModuleDict(
            {name: nn.Linear(model_config.dim, model_config.vocab_size) for name in ("audio", "video", "fused")}
        )
        self._parameters = [*self.model.parameters(), *self._frame_heads.parameters()]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay
        )
        self._epoch = 0
        self._log: list[dict[str, float]] = []

    def load_branches(self, *directories: Path) -> None:
        """Take over each trained branch from an earlier stage's directory."""
        for directory in directories:
            saved = _read_checkpoint(directory / CHECKPOINT)
            for module, weights in ((self.model, saved["model"]), (self._frame_heads, saved["frame_heads"])):
                own = {name: value for name, value in weights.items() if name.startswith(saved["branch"])}
                module.load_state_dict(own, strict=False)

    def run(self) -> AvsrModel:
        """Train to the stage's last epoch; return the model."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._resume()
        while self._epoch < self._stage.epochs:
            begun = time.monotonic()
            loss = self._train_epoch()
            self._epoch += 1
            scores = self._validate() if self._is_validation_epoch() else {}
            record = {"epoch": self._epoch, "loss": loss, "seconds": time.monotonic() - begun, **scores}
            self._log.append(record)
            print("  ".join(f"{name} {value:.4g}" for name, value in record.items()), flush=True)
            self._save()
        return self.model

    def _is_validation_epoch(self) -> bool:
        return self._epoch % self._stage.validate_every == 0 or self._epoch == self._stage.epochs

    def _train_epoch(self) -> float:
        rng = np.random.default_rng((self._stage.seed, self._epoch))
        self.model.train()
        batches = list(self._draw_batches(rng))
        total = 0.0
        for index, clips in enumerate(batches):
            self._set_learning_rate(self._epoch + index / len(batches))
            examples = [self._example(group, rng) for group in clips]
            batch = self._collator(swap_lips(examples, self._stage.augment.lip_swap_share, rng))
            batch = self._collator.mask_spectrum(batch, rng)
            chunk_ticks = int(rng.choice(self.model.config.chunk_sizes))
            loss = self._loss(batch, chunk_ticks)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._parameters, 5.0)
            self._optimiser.step()
            total += loss.item() / len(batches)
        return total

    def _example(self, group: Group, rng: np.random.Generator) -> Example:
        clips = [(clip, source.corpus.load(clip)) for source, clip in group]
        return augment(clips, self._stage.augment, self._noise, rng)

    def _draw_batches(self, rng: np.random.Generator) -> Iterator[list[Group]]:
        """Yield batches of clips to be joined: mostly single ones, now and then pairs of one speaker."""
        drawn: list[tuple[Source, Clip]] = []
        for source in self._sources:
            whole, part = divmod(source.repeat, 1.0)
            drawn += [(source, clip) for clip in source.clips for _ in range(int(whole) + (rng.random() < part))]
        shuffled = [drawn[i] for i in rng.permutation(len(drawn))]
        for batch in of_like_length(shuffled, self._stage.batch_size, lambda item: item[1].num_ticks, rng):
            if rng.random() < self._stage.augment.join_share:
                batch.sort(key=lambda item: item[1].speaker)
                yield [batch[i : i + 2] for i in range(0, len(batch), 2)]
            else:
                yield [[item] for item in batch]

    def _set_learning_rate(self, epoch: float) -> None:
        """Linear warm-up, then half a cosine down to a fiftieth."""
        stage = self._stage
        progress = max(0.0, epoch - stage.warmup_epochs) / max(1e-9, stage.epochs - stage.warmup_epochs)
        factor = min(1.0, (epoch + 0.02) / max(1e-9, stage.warmup_epochs)) * (
            0.51 + 0.49 * math.cos(math.pi * progress)
        )
        for group in self._optimiser.param_groups:
            group["lr"] = stage.learning_rate * factor

    def _loss(self, batch: Batch, chunk_ticks: int) -> torch.Tensor:
        features, fusion = self._features(batch, chunk_ticks)
        if fusion is None:
            return self._branch_loss(self._branch, features[self._branch], batch)
        heard, seen = batch.chunk.heard.any(1), batch.chunk.visible.any(1) & batch.lips_match
        loss = self._branch_loss("fused", features["fused"], batch)
        loss = loss + BRANCH_LOSS_WEIGHT * self._branch_loss("audio", features["audio"], batch, heard)
        loss = loss + BRANCH_LOSS_WEIGHT * self._branch_loss("video", features["video"], batch, seen)
        snr_error = (fusion.snr_db - batch.snr_db[:, None]) / SNR_SCALE_DB
        known = batch.chunk.heard & batch.valid
        return loss + SNR_LOSS_WEIGHT * (snr_error.square() * known).sum() / known.sum().clamp_min(1)

    def _features(self, batch: Batch, chunk_ticks: int) -> tuple[dict[str, torch.Tensor], FusionOutput | None]:
        """Run what the stage trains: features (B, T, dim) by the name of the head that reads them."""
        arguments = batch.chunk, batch.valid, self.model.init_state(len(batch.texts), context_ticks=0), chunk_ticks
        if self._branch == "audio":
            return {"audio": self.model.encode_audio(*arguments)[0]}, None
        if self._branch == "video":
            return {"video": self.model.encode_video(*arguments)[0]}, None
        output, _ = self.model.encode(*arguments)
        return {"audio": output.audio, "video": output.video, "fused": output.fused}, output.fusion

    def _branch_loss(
        self, name: str, features: torch.Tensor, batch: Batch, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """CTC and frame-wise cross-entropy, over the rows whose sense is present."""
        if rows is None:
            rows = torch.ones(len(batch.texts), dtype=torch.bool)
        if not rows.any():
            return features.sum() * 0
        features = features[rows]
        log_probs = getattr(self.model, f"{name}_head")(features).log_softmax(-1)
        ctc = nn.functional.ctc_loss(
            log_probs.masked_fill(~batch.emission[rows], FORBIDDEN).transpose(0, 1),
            batch.targets[rows],
            batch.valid[rows].sum(1),
            batch.target_lengths[rows],
            blank=self._tokenizer.blank_id,
            zero_infinity=True,
        )
        labels = batch.frame_labels[rows]
        frames = self._frame_heads[name](features)[batch.valid[rows]]
        frame = nn.functional.cross_entropy(
            frames, labels[batch.valid[rows]], ignore_index=IGNORED, label_smoothing=0.05
        )
        # A batch without alignments has no frame labels, hence no frame loss.
        return ctc + FRAME_LOSS_WEIGHT * (frame if bool((labels >= 0).any()) else features.sum() * 0)

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Greedy word error rates on the dev clips, clean, per branch."""
        self.model.eval()
        clips = self._dev.clips
        found: dict[str, list[str]] = {}
        chunk_ticks = self.model.config.chunk_sizes[len(self.model.config.chunk_sizes) // 2]
        for start in range(0, len(clips), 20):
            batch = self._collator(
                [self._collator.whole(c, self._dev.corpus.load(c)) for c in clips[start : start + 20]]
            )
            features, _ = self._features(batch, chunk_ticks)
            for name, x in features.items():
                best = getattr(self.model, f"{name}_head")(x).argmax(-1)
                texts = [self._greedy(row[: int(n)]) for row, n in zip(best, batch.valid.sum(1), strict=True)]
                found.setdefault(name, []).extend(texts)
        return {f"{name}_wer": word_error_rate([c.text for c in clips], texts) for name, texts in found.items()}

    def _greedy(self, best: torch.Tensor) -> str:
        ids = torch.unique_consecutive(best).tolist()
        return self._tokenizer.decode([i for i in ids if i != self._tokenizer.blank_id])

    def _save(self) -> None:
        path = self._directory / CHECKPOINT
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "branch": self._branch,
                "epoch": self._epoch,
                "model": self.model.state_dict(),
                "frame_heads": self._frame_heads.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "torch_random": torch.get_rng_state(),
                "log": self._log,
            },
            partial,
        )
        partial.replace(path)

    def _resume(self) -> None:
        path = self._directory / CHECKPOINT
        if not path.exists():
            return
        saved = _read_checkpoint(path)
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise InputError(f"{path}: holds a network of other sizes; train with another --work") from error
        self._frame_heads.load_state_dict(saved["frame_heads"])
        self._optimiser.load_state_dict(saved["optimiser"])
        torch.set_rng_state(saved["torch_random"])
        self._epoch, self._log = saved["epoch"], saved["log"]
        print(f"resumed after epoch {self._epoch}", flush=True)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return saved
