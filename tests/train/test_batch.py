"""Batches: padding is marked, labels are where the words are, and no word may be written before it is spoken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_clips import make_clip

from avsr.config import FeatureConfig
from avsr.corpora import AlignedWord
from avsr.decode import Tokenizer
from avsr.features import LogMel
from avsr.train.augment.examples import Example
from avsr.train.augment.spectrum import MaskConfig
from avsr.train.batch import (
    BUCKET_BATCHES,
    EMISSION_DELAY_TICKS,
    IGNORED,
    LABEL_DELAY_TICKS,
    Batch,
    Collator,
    of_like_length,
)
from avsr.train.packs.reader import ClipData
from avsr.types import LIP_SIZE, MELS_PER_TICK, TICK_SAMPLES


@pytest.fixture
def collator(features: FeatureConfig, tokenizer: Tokenizer) -> Collator:
    return Collator(features, tokenizer)


def example(
    words: tuple[AlignedWord, ...], num_ticks: int, text: str | None = None, *, heard: bool = True, visible: bool = True
) -> Example:
    data = ClipData(
        np.random.default_rng(num_ticks).normal(scale=0.1, size=num_ticks * TICK_SAMPLES).astype(np.float32),
        np.full((num_ticks, LIP_SIZE, LIP_SIZE), 7, np.uint8),
        heard=np.full(num_ticks, heard),
        visible=np.full(num_ticks, visible),
    )
    spoken = " ".join(word.text for word in words) if text is None else text
    return Example(data, words, spoken, snr_db=3.0)


def test_frame_labels_follow_the_words(collator: Collator, tokenizer: Tokenizer) -> None:
    [bin_token], x_tokens = tokenizer.encode("bin"), tokenizer.encode("x y")
    assert len(x_tokens) == 4  # a mark and a letter for each
    words = (AlignedWord("bin", 0.2, 0.4), AlignedWord("x", 0.4, 0.48), AlignedWord("y", 0.6, 0.76))
    labels = collator([example(words, 22)]).frame_labels[0].tolist()
    wanted = [tokenizer.blank_id] * 22
    wanted[5 + LABEL_DELAY_TICKS : 10 + LABEL_DELAY_TICKS] = [bin_token] * 5
    wanted[10 + LABEL_DELAY_TICKS : 12 + LABEL_DELAY_TICKS] = x_tokens[:2]
    wanted[15 + LABEL_DELAY_TICKS : 19 + LABEL_DELAY_TICKS] = [x_tokens[2]] * 2 + [x_tokens[3]] * 2
    assert labels == wanted


def test_tokens_may_be_written_from_the_word_on_until_a_little_later(collator: Collator, tokenizer: Tokenizer) -> None:
    words = (AlignedWord("bin", 0.2, 0.4), AlignedWord("x", 0.4, 0.48))
    emission = collator([example(words, 22)]).emission[0]
    assert emission[:, tokenizer.blank_id].all()
    for word, start, end in (("bin", 5, 10), ("x", 10, 12)):
        for token in tokenizer.encode(word):
            assert emission[:, token].nonzero()[:, 0].tolist() == list(range(start, end + EMISSION_DELAY_TICKS))
    never = set(range(tokenizer.vocab_size)) - {tokenizer.blank_id, *tokenizer.encode("bin x")}
    assert not emission[:, sorted(never)].any()


def test_labels_are_cut_where_the_window_ends(collator: Collator, tokenizer: Tokenizer) -> None:
    words = (AlignedWord("bin", -0.2, 0.04), AlignedWord("blue", 0.2, 2.0))
    batch = collator([example(words, 8)])
    [bin_token], [blue_token] = tokenizer.encode("bin"), tokenizer.encode("blue")
    blank = tokenizer.blank_id
    assert batch.frame_labels[0].tolist() == [bin_token] * 2 + [blank] * 4 + [blue_token] * 2
    assert batch.emission[0, :, bin_token].tolist() == [True] * 6 + [False] * 2
    assert batch.emission[0, :, blue_token].tolist() == [False] * 5 + [True] * 3


def test_without_times_nothing_is_labelled_and_all_may_be_written(collator: Collator) -> None:
    batch = collator([example((), 5, text="bin blue")])
    assert (batch.frame_labels == IGNORED).all()
    assert batch.emission.all()


@pytest.fixture
def padded(collator: Collator) -> Batch:
    words = (AlignedWord("bin", 0.04, 0.16),)
    return collator([example(words, 5, heard=False), example((*words, *words), 9, visible=False)])


def test_padding_is_marked(padded: Batch) -> None:
    assert padded.valid.sum(1).tolist() == [5, 9]
    assert padded.chunk.mel.shape == (2, 9 * MELS_PER_TICK, 80)
    assert padded.chunk.lips.shape == (2, 9, LIP_SIZE, LIP_SIZE)
    assert padded.chunk.lips.dtype == torch.uint8
    assert (padded.frame_labels[0, 5:] == IGNORED).all()
    assert padded.target_lengths.tolist() == [1, 2]
    assert padded.targets.shape == (2, 2)
    assert not padded.chunk.visible[0, 5:].any()
    assert not padded.chunk.heard[0, 5:].any()
    assert padded.texts == ("bin", "bin bin")


def test_a_dropped_sense_is_absent_all_along(padded: Batch) -> None:
    assert not padded.chunk.heard[0].any()
    assert padded.chunk.visible[0, :5].all()
    assert padded.chunk.heard[1].all()
    assert not padded.chunk.visible[1].any()


def test_training_hears_what_the_engine_hears(collator: Collator, features: FeatureConfig) -> None:
    clip, data = make_clip(["bin", "red"], 1)
    batch = collator([collator.whole(clip, data)])
    log_mel = LogMel(features)
    mel, _ = log_mel.step(torch.from_numpy(data.audio), log_mel.init_state())
    assert torch.equal(batch.chunk.mel[0], mel)
    assert batch.chunk.heard.all()
    assert batch.chunk.visible.all()


def test_every_sentence_can_be_written_in_its_windows(collator: Collator, tokenizer: Tokenizer) -> None:
    batch = collator([collator.whole(*make_clip(["bin", "blue", "red"], 1))])
    scores = torch.zeros(*batch.emission.shape).masked_fill(~batch.emission, -1e4).log_softmax(-1)
    loss = torch.nn.functional.ctc_loss(
        scores.transpose(0, 1), batch.targets, batch.valid.sum(1), batch.target_lengths, blank=tokenizer.blank_id
    )
    assert loss < 100


def test_masking_changes_only_the_sound(collator: Collator) -> None:
    examples = [collator.whole(*make_clip(words, 1)) for words in (["bin"], ["bin", "red"])]
    batch = collator(examples)
    masked = collator(examples, MaskConfig(), [np.random.default_rng(seed) for seed in range(2)])
    changed = masked.chunk.mel != batch.chunk.mel
    assert 0 < changed.float().mean() < 0.6
    assert (masked.chunk.mel[changed] == 0).all()
    assert torch.equal(masked.chunk.lips, batch.chunk.lips)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 500), max_size=300), st.integers(1, 16), st.integers(0, 9))
def test_every_item_comes_once_among_items_of_its_length(lengths: list[int], size: int, seed: int) -> None:
    batches = list(of_like_length(lengths, size, lambda length: length, np.random.default_rng(seed)))
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    assert all(0 < len(batch) <= size for batch in batches)
    if len(lengths) <= BUCKET_BATCHES * size:  # one bucket: no two batches overlap
        spans = sorted((min(batch), max(batch)) for batch in batches)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
