"""What is minimised: CTC and frame labels for each branch, the noise estimate, and agreement of the branches.

Every term is a sum over one share of a step's examples, divided by the number of rows or ticks in the *whole* step.
So the losses and gradients of the shares add up to those of the step, however it is split over processes and parts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from avsr.model import AvsrModel
from avsr.nn.attention import Window
from avsr.nn.fusion import SNR_SCALE_DB, FusionOutput
from avsr.train.batch import IGNORED, Batch
from avsr.train.recipe import Branch

FRAME_LOSS_WEIGHT = 0.5
BRANCH_LOSS_WEIGHT = 0.3
SNR_LOSS_WEIGHT = 0.1
LABEL_SMOOTHING = 0.05
MIN_SHARE_PRESENT = 0.9
"""Examples in which a sense is present for a smaller share of the ticks do not train that sense's own branch."""
FORBIDDEN = -1e4
"""Log-probability of writing a token when it may not be written; finite, so that gradients stay so."""

HEADS: dict[Branch, tuple[str, ...]] = {"audio": ("audio",), "video": ("video",), "fusion": ("audio", "video", "fused")}
"""Which heads a stage trains; the last is its main one."""
Weights = dict[str, dict[str, torch.Tensor]]
"""By part (``model`` or ``frame_heads``) and name."""


class Objective(nn.Module):
    """The network and, as ``forward``, what a stage minimises; only what the stage trains requires gradients."""

    def __init__(self, branch: Branch, model: AvsrModel, blank_id: int, alignment_weight: float = 0.0) -> None:
        super().__init__()
        self.branch, self.model = branch, model
        self._blank_id, self._alignment_weight = blank_id, alignment_weight
        self.terms = _term_names(branch, is_aligned=branch == "fusion" and alignment_weight > 0)
        """What the loss is made of, by name, each with its weight in it."""
        sizes = model.config
        # Frame-wise word labels teach each branch where words are long before CTC finds out; not part of the model.
        self.frame_heads = nn.ModuleDict({name: nn.Linear(sizes.dim, sizes.vocab_size) for name in HEADS["fusion"]})
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(branch == "fusion" or name.split(".", 1)[1].startswith(branch))

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return what the stage trains."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def running_statistics(self) -> list[torch.Tensor]:
        """Return the statistics of batch normalisation that the stage moves."""
        if self.branch == "audio":
            return []
        return [x for name, x in self.named_buffers() if name.endswith(("running_mean", "running_var"))]

    def weights(self) -> Weights:
        """Return all weights, not copied."""
        return {"model": self.model.state_dict(), "frame_heads": self.frame_heads.state_dict()}

    def load(self, weights: Weights, branch: str = "") -> None:
        """Take over ``weights``, or those of one branch.

        Raises:
            RuntimeError: they are of other sizes.
        """
        for module, values in ((self.model, weights["model"]), (self.frame_heads, weights["frame_heads"])):
            own = {name: value for name, value in values.items() if name.startswith(branch)}
            module.load_state_dict(own, strict=not branch)

    def forward(self, batch: Batch | None, window: Window, counts: Mapping[str, float]) -> torch.Tensor:
        """Return this share's part of the step's loss, f32 (num_terms,): its ``terms``, which add up to it.

        ``counts`` is `count_terms` summed over all shares; ``batch`` is None for a share without examples. Every share
        gives every weight a gradient, 0 where it was not used, since DDP waits for the gradients of all weights.
        """
        nothing = torch.stack([parameter.sum() for parameter in self.trained_parameters()]).sum() * 0
        if batch is None:
            return nothing.expand(len(self.terms))
        features, fusion = self.features(batch, window)
        scores = {name: getattr(self.model, f"{name}_head")(x).float().log_softmax(-1) for name, x in features.items()}
        terms: dict[str, torch.Tensor] = {}
        for name, rows in _rows(self.branch, batch).items():
            labels = _labels(batch, rows)
            ctc = self._ctc(scores[name], batch, rows) / max(1.0, counts[f"{name}_rows"])
            frames = _frame_loss(self.frame_heads[name](features[name]), labels) / max(1.0, counts[f"{name}_frames"])
            weight = 1.0 if name == HEADS[self.branch][-1] else BRANCH_LOSS_WEIGHT
            terms |= {f"{name}_ctc": weight * ctc, f"{name}_frames": weight * FRAME_LOSS_WEIGHT * frames}
        if fusion is not None:
            snr_error = (fusion.snr_db.float() - batch.snr_db[:, None]) / SNR_SCALE_DB
            snr = (snr_error.square() * _heard(batch)).sum() / max(1.0, counts["heard_ticks"])
            terms["snr"] = SNR_LOSS_WEIGHT * snr
        if fusion is not None and self._alignment_weight:
            apart = branch_divergence(scores, _both(batch)) / max(1.0, counts["both_ticks"])
            terms["alignment"] = self._alignment_weight * apart
        assert terms.keys() == set(self.terms)
        return torch.stack([terms[name] for name in self.terms]) + nothing

    def features(self, batch: Batch, window: Window) -> tuple[dict[str, torch.Tensor], FusionOutput | None]:
        """Run what the stage trains: features (B, T, dim) by the name of the head that reads them."""
        arguments = batch.chunk, batch.valid, self.model.init_state(len(batch.texts), context_ticks=0), window
        if self.branch == "audio":
            return {"audio": self.model.encode_audio(*arguments)[0]}, None
        if self.branch == "video":
            return {"video": self.model.encode_video(*arguments)[0]}, None
        output, _ = self.model.encode(*arguments)
        return {"audio": output.audio, "video": output.video, "fused": output.fused}, output.fusion

    def _ctc(self, scores: torch.Tensor, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """Sum, over ``rows``, the loss of each per token of its text."""
        losses = functional.ctc_loss(
            scores.masked_fill(~batch.emission, FORBIDDEN).transpose(0, 1),
            batch.targets,
            batch.valid.sum(1),
            batch.target_lengths,
            blank=self._blank_id,
            reduction="none",
            zero_infinity=True,
        )
        return (losses / batch.target_lengths.clamp_min(1)).masked_fill(~rows, 0.0).sum()


def count_terms(branch: Branch, batch: Batch | None) -> dict[str, int]:
    """Count what each term of the loss is a mean over, and the ``clips`` and ``ticks`` that are learnt from."""
    counts = dict.fromkeys(("clips", "ticks", "heard_ticks", "both_ticks"), 0)
    counts |= {f"{head}_{unit}": 0 for head in HEADS[branch] for unit in ("rows", "frames")}
    if batch is None:
        return counts
    counts |= {"clips": len(batch.texts), "ticks": int(batch.valid.sum())}
    counts |= {"heard_ticks": int(_heard(batch).sum()), "both_ticks": int(_both(batch).sum())}
    for head, rows in _rows(branch, batch).items():
        counts[f"{head}_rows"] = int(rows.sum())
        counts[f"{head}_frames"] = int((_labels(batch, rows) != IGNORED).sum())
    return counts


def branch_divergence(scores: Mapping[str, torch.Tensor], both: torch.Tensor) -> torch.Tensor:
    """Sum, over the ticks ``both`` bool (B, T), how far each sense's posteriors lie from the fused ones.

    Each branch learns to write a token at the tick at which both senses together write it, so that neither waits for
    the other: alignment regularisation, in the spirit of Ma et al. 2022 ("Streaming Audio-Visual Speech Recognition
    with Alignment Regularization"). The fused posteriors are the target and get no gradient.
    """
    fused = scores["fused"].detach()
    total = fused.new_zeros(())
    for name in ("audio", "video"):
        divergence = functional.kl_div(scores[name], fused, reduction="none", log_target=True).sum(-1)
        total = total + divergence.masked_fill(~both, 0.0).sum()
    return total


def _term_names(branch: Branch, *, is_aligned: bool) -> tuple[str, ...]:
    *others, last = HEADS[branch]
    names = [f"{head}_{kind}" for head in (last, *others) for kind in ("ctc", "frames")]
    return (*names, *(["snr"] if branch == "fusion" else []), *(["alignment"] if is_aligned else []))


def _rows(branch: Branch, batch: Batch) -> dict[str, torch.Tensor]:
    """Return bool (B,) for each trained head: the examples whose whole text can be told from its senses.

    A branch that is trained on words which it cannot perceive learns to guess.
    """
    rows = {
        "fused": torch.ones_like(batch.lips_match),
        "audio": _is_there(batch.chunk.heard, batch),
        "video": _is_there(batch.chunk.visible, batch) & batch.lips_match,
    }
    return {head: learns for head, learns in rows.items() if head in HEADS[branch]}


def _is_there(present: torch.Tensor, batch: Batch) -> torch.Tensor:
    return (present & batch.valid).sum(1) >= MIN_SHARE_PRESENT * batch.valid.sum(1)


def _labels(batch: Batch, rows: torch.Tensor) -> torch.Tensor:
    return batch.frame_labels.masked_fill(~(rows[:, None] & batch.valid), IGNORED)


def _heard(batch: Batch) -> torch.Tensor:
    return batch.chunk.heard & batch.valid


def _both(batch: Batch) -> torch.Tensor:
    return _heard(batch) & batch.chunk.visible & batch.lips_match[:, None]


def _frame_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=LABEL_SMOOTHING,
        reduction="sum",
    )
