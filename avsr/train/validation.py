"""Word error rates on the dev clips: greedy, clean, per head, and separately for seen and unseen speakers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

import torch

from avsr.decode.tokenizer import Tokenizer, normalise_text
from avsr.evaluate.wer import NO_ERRORS, Errors, word_errors
from avsr.train.batch import Collator
from avsr.train.machine import Machine
from avsr.train.objective import HEADS, Objective
from avsr.train.plan import Source
from avsr.train.recipe import Branch

BATCH_CLIPS = 20
SCORED: dict[Branch, str] = {branch: f"{heads[-1]}_wer" for branch, heads in HEADS.items()}
"""The score by which the weights of a stage are chosen."""


class Validator:
    """Recognises the clips of ``dev``, each process its share; ``seen`` are the speakers of the training clips."""

    def __init__(
        self, dev: Source, seen: Collection[str], collator: Collator, tokenizer: Tokenizer, machine: Machine
    ) -> None:
        self._dev, self._seen, self._collator = dev, frozenset(seen), collator
        self._tokenizer, self._machine = tokenizer, machine

    def __call__(self, objective: Objective) -> dict[str, float]:
        """Return word error rates: ``NAME_wer`` of each head that the stage trains.

        Where the dev clips have both seen and unseen speakers, also ``dev_seen_wer`` and ``dev_unseen_wer`` of the
        head by which weights are chosen.
        """
        was_training = objective.training
        objective.eval()
        with torch.no_grad(), self._machine.autocast():
            read = list(self._read(objective))
        objective.train(was_training)
        *_, main = heads = HEADS[objective.branch]
        rates = {f"{head}_wer": self._rate([errors for name, _, errors in read if name == head]) for head in heads}
        found = {name: rate for name, rate in rates.items() if rate is not None}
        seen, unseen = (
            self._rate([errors for name, speaker, errors in read if name == main and (speaker in self._seen) is side])
            for side in (True, False)
        )
        return found if seen is None or unseen is None else {**found, "dev_seen_wer": seen, "dev_unseen_wer": unseen}

    def _read(self, objective: Objective) -> Iterator[tuple[str, str, Errors]]:
        """Yield head, speaker and errors of each of this process's clips."""
        processes, chunk_sizes = self._machine.processes, objective.model.config.chunk_sizes
        window = objective.model.window(chunk_sizes[len(chunk_sizes) // 2])
        clips = self._dev.clips[processes.rank :: processes.count]
        for start in range(0, len(clips), BATCH_CLIPS):
            chosen = clips[start : start + BATCH_CLIPS]
            batch = self._collator([self._collator.whole(clip, self._dev.corpus.load(clip)) for clip in chosen])
            lengths = batch.valid.sum(1).tolist()
            features, _ = objective.features(batch.to(self._machine.device), window)
            for name, x in features.items():
                best = getattr(objective.model, f"{name}_head")(x).argmax(-1).cpu()
                for clip, row, length in zip(chosen, best, lengths, strict=True):
                    yield name, clip.speaker, word_errors(normalise_text(clip.text), self._greedy(row[:length]))

    def _greedy(self, best: torch.Tensor) -> str:
        return self._tokenizer.decode(token for token, _ in groupby(best.tolist()))

    def _rate(self, errors: list[Errors]) -> float | None:
        """Return the rate over everybody's clips; None where they have no word."""
        own = sum(errors, NO_ERRORS)
        total, num_words = self._machine.processes.sum(torch.tensor([own.total, own.num_reference])).tolist()
        return total / num_words if num_words else None
