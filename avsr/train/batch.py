"""Examples become one padded batch of model input and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from avsr.config import FeatureConfig
from avsr.corpora import AlignedWord
from avsr.decode.tokenizer import Tokenizer
from avsr.features import LogMel
from avsr.traced import map_tensors
from avsr.train.augment.examples import CLEAN_SNR_DB, Example
from avsr.train.augment.spectrum import MaskConfig, mask_spectrum
from avsr.train.packs.reader import Clip, ClipData
from avsr.types import TICK_S, AvChunk

T = TypeVar("T")
IGNORED = -100
BUCKET_BATCHES = 8
"""Items are sorted by length within groups of this many batches: more would mean less padding and less mixing."""
LABEL_DELAY_TICKS = 1
"""Frame labels lag behind the word by this much: a causal network must have perceived some of it."""
EMISSION_DELAY_TICKS = 5
"""CTC may write a word's tokens from the word's start until this long after its end.

Free CTC learns to write words before they are spoken wherever a chunk, or the sentence's grammar, lets it guess.
Restricting the alignments (Senior et al. 2015, "Acoustic modelling with CD-CTC-SMBR LSTM RNNs") makes it wait.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """B padded examples of up to T ticks.

    ``valid`` bool (B, T); ``targets`` int (B, L) token ids, ``target_lengths`` int (B,); ``frame_labels`` int (B, T),
    the token spoken at each tick, blank in silence, -100 where unknown; ``emission`` bool (B, T, V), which tokens CTC
    may write when; ``snr_db`` f32 (B,); ``lips_match`` bool (B,), False where the lips say something else.
    """

    chunk: AvChunk
    valid: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    frame_labels: torch.Tensor
    emission: torch.Tensor
    snr_db: torch.Tensor
    lips_match: torch.Tensor
    texts: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """Return the same on ``device``."""
        return map_tensors(self, lambda tensor: tensor.to(device))


class Collator:
    """Computes features and labels and pads them into a ``Batch``."""

    def __init__(self, features: FeatureConfig, tokenizer: Tokenizer) -> None:
        self._log_mel = LogMel(features)
        self._tokenizer = tokenizer

    def __call__(
        self, examples: list[Example], masks: MaskConfig | None = None, rngs: Sequence[np.random.Generator] = ()
    ) -> Batch:
        """Make one batch of ``examples``; with ``masks`` each spectrogram is masked by its own generator of ``rngs``.

        What is masked of an example depends neither on the others of its batch nor on the padding behind it.
        """
        mels = [self._log_mel.parallel(torch.from_numpy(e.data.audio)) for e in examples]
        if masks is not None:
            mels = [mask_spectrum(mel, masks, rng) for mel, rng in zip(mels, rngs, strict=True)]
        lengths = torch.tensor([len(e.data.visible) for e in examples])
        ticks = int(lengths.max())
        valid = torch.arange(ticks) < lengths[:, None]
        targets = [torch.tensor(self._tokenizer.encode(e.text), dtype=torch.long) for e in examples]
        return Batch(
            chunk=AvChunk(
                mel=_pad(mels),
                lips=_pad([torch.from_numpy(e.data.lips) for e in examples]),
                heard=_pad([torch.from_numpy(e.data.heard) for e in examples]),
                visible=_pad([torch.from_numpy(e.data.visible) for e in examples]),
            ),
            valid=valid,
            targets=_pad(targets),
            target_lengths=torch.tensor([len(t) for t in targets]),
            frame_labels=_pad([self._frame_labels(e.words, len(e.data.visible)) for e in examples], IGNORED),
            emission=_pad([self._emission(e.words, len(e.data.visible)) for e in examples], True),
            snr_db=torch.tensor([e.snr_db for e in examples], dtype=torch.float32),
            lips_match=torch.tensor([e.lips_match for e in examples]),
            texts=tuple(e.text for e in examples),
        )

    def whole(self, clip: Clip, data: ClipData) -> Example:
        """Return a clip as an example, unchanged."""
        return Example(data, clip.words, clip.text, CLEAN_SNR_DB)

    def _frame_labels(self, words: tuple[AlignedWord, ...], num_ticks: int) -> torch.Tensor:
        """Spread each word's tokens evenly over its ticks."""
        if not words:
            return torch.full((num_ticks,), IGNORED)
        labels = torch.full((num_ticks,), self._tokenizer.blank_id)
        for word in words:
            tokens = self._tokenizer.encode(word.text)
            edges = np.linspace(word.start_s, word.end_s, len(tokens) + 1) / TICK_S + LABEL_DELAY_TICKS
            for token, start, end in zip(tokens, edges[:-1].round(), edges[1:].round(), strict=True):
                labels[max(0, int(start)) : max(0, int(end))] = token
        return labels

    def _emission(self, words: tuple[AlignedWord, ...], num_ticks: int) -> torch.Tensor:
        """Allow each word's tokens around the word; blanks, and everything where no times are known, always."""
        allowed = torch.zeros(num_ticks, self._tokenizer.vocab_size, dtype=torch.bool)
        if not words:
            return ~allowed
        allowed[:, self._tokenizer.blank_id] = True
        for word in words:
            start, end = round(word.start_s / TICK_S), round(word.end_s / TICK_S) + EMISSION_DELAY_TICKS
            allowed[max(0, start) : max(0, end), self._tokenizer.encode(word.text)] = True
        return allowed


def of_like_length(
    items: Sequence[T], size: int, length: Callable[[T], int], rng: np.random.Generator
) -> Iterator[list[T]]:
    """Yield ``items`` in batches of up to ``size`` and of similar length, to save padding, in random order.

    ``items`` should be shuffled.
    """
    batches = []
    for start in range(0, len(items), size * BUCKET_BATCHES):
        by_length = sorted(items[start : start + size * BUCKET_BATCHES], key=length)
        batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
    for index in rng.permutation(len(batches)):
        yield batches[index]


def _pad(rows: list[torch.Tensor], value: float = 0) -> torch.Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
