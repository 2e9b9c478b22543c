"""What a step learns from depends on the seed, the epoch and the step: not on what went before, nor on who makes it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import fields, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import tiny_sizes
from toy_clips import make_clip, write_pack

from avsr.config import FeatureConfig
from avsr.decode import Tokenizer
from avsr.errors import AvsrError, InputError
from avsr.train.augment.examples import AugmentConfig
from avsr.train.augment.noise import NoiseSource
from avsr.train.augment.spectrum import MaskConfig
from avsr.train.augment.words import WordDonors
from avsr.train.batch import Batch, Collator
from avsr.train.packs.reader import PreparedCorpus, shard_path
from avsr.train.plan import RngPurpose, Source, make_rng, plan_epoch, share_of
from avsr.train.recipe import StageConfig
from avsr.train.steps import Position, Step, StepMaker, make_steps

ROUGH = AugmentConfig(
    speed=0.1,
    lip_blur_px=1.0,
    lip_cover_share=0.5,
    lip_drop_share=0.1,
    lip_swap_share=0.5,
    word_swap_share=0.5,
    kept_lips_share=0.5,
    reverb_share=0.5,
    noise_share=0.7,
    drop_audio_share=0.2,
    vanish_video_share=0.2,
)

SIZES = tiny_sizes(44)


@pytest.fixture
def maker_of(corpus: PreparedCorpus, features: FeatureConfig, tokenizer: Tokenizer) -> Any:
    """``maker_of(rank=0, num_processes=1, **settings)``."""
    noise = NoiseSource([], [np.random.default_rng(0).normal(size=9000).astype(np.float32)])

    def make(rank: int = 0, num_processes: int = 1, **settings: object) -> StepMaker:
        stage = StageConfig.model_validate({"epochs": 3, "batch_size": 5, "augment": ROUGH} | settings)
        sources = [Source(corpus, corpus.select("train")), Source(corpus, corpus.select("dev"), repeat=0.5)]
        return StepMaker(sources, stage, Collator(features, tokenizer), noise, SIZES, rank, num_processes)

    return make


def tensors(batch: Batch) -> Iterator[torch.Tensor]:
    for holder in (batch, batch.chunk):
        values = (getattr(holder, field.name) for field in fields(holder))
        yield from (value for value in values if isinstance(value, torch.Tensor))


def same(one: Batch | None, other: Batch | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


@pytest.fixture
def _readied(readied: ForkServerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers need not import PyTorch."""
    monkeypatch.setattr(torch.multiprocessing, "get_context", {"spawn": readied}.__getitem__)


@pytest.mark.timeout(300)  # a busy machine takes long to import PyTorch
@pytest.mark.usefixtures("_readied")
def test_workers_never_change_what_is_learnt_from(maker_of: Any) -> None:
    first = Position(1, 1)
    here = list(make_steps(maker_of(), first, workers=0))
    there = list(make_steps(maker_of(), first, workers=2))
    assert all(same(a.batch, b.batch) for a, b in zip(here[0].parts, maker_of()[first].parts, strict=True))
    for one, other in zip(here, there, strict=True):
        assert one.window == other.window
        assert [part.seed for part in one.parts] == [part.seed for part in other.parts]
        assert all(same(a.batch, b.batch) for a, b in zip(one.parts, other.parts, strict=True))


class Doomed(StepMaker):
    """Gets SIGHUP, which only the trainer must handle, as the terminal closes; then is killed, as if out of memory."""

    has_lived: Path

    def __getitem__(self, position: Position) -> Step:
        os.kill(os.getpid(), signal.SIGHUP)
        self.has_lived.touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


@pytest.fixture
def damaged(tmp_path: Path, features: FeatureConfig, tokenizer: Tokenizer) -> tuple[Any, ...]:
    """The arguments of a `StepMaker` with a damaged clip."""
    write_pack(tmp_path, [make_clip(["bin"], 0)])
    shard_path(tmp_path, 0).write_bytes(bytes(shard_path(tmp_path, 0).stat().st_size))
    source = Source(corpus := PreparedCorpus(tmp_path), list(corpus.clips))
    return [source], StageConfig(epochs=1), Collator(features, tokenizer), NoiseSource([], []), SIZES


@pytest.mark.timeout(300)  # a busy machine takes long to import PyTorch
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("_readied")
def test_a_damaged_clip_raises_an_error_of_ours(damaged: tuple[Any, ...], workers: int) -> None:
    with pytest.raises(InputError, match=r"^\S+: 0\.mp4 is damaged in it"):
        list(make_steps(StepMaker(*damaged), Position(0, 0), workers=workers))


@pytest.mark.timeout(300)  # processes import PyTorch anew
def test_the_death_of_a_worker_raises_an_error_of_ours(tmp_path: Path, damaged: tuple[Any, ...]) -> None:
    doomed = Doomed(*damaged)
    doomed.has_lived = tmp_path / "has_lived"
    with pytest.raises(AvsrError, match=r"^DataLoader worker .* use fewer --workers"):
        list(make_steps(doomed, Position(0, 0), workers=1))
    assert doomed.has_lived.exists()


def test_a_step_is_the_same_whatever_was_made_before(maker_of: Any) -> None:
    fresh, used = maker_of(), maker_of()
    for position in used.positions(Position(0, 0)):
        made = used[position]
        assert made.num_steps == used.num_steps(position.epoch)
    again = fresh[position]
    assert same(made.parts[0].batch, again.parts[0].batch)
    assert not same(made.parts[0].batch, fresh[Position(1, 0)].parts[0].batch)


def test_what_is_learnt_from_is_masked(maker_of: Any) -> None:
    def mel_of(**mask: int) -> torch.Tensor:
        augment = AugmentConfig(mask=MaskConfig(**mask))
        batch = maker_of(augment=augment)[Position(0, 0)].parts[0].batch
        return batch.chunk.mel  # type: ignore[no-any-return]

    plain, masked = mel_of(num_bands=0, num_moments=0), mel_of(num_bands=2, num_moments=2)
    differs = plain != masked
    assert differs.flatten(1).any(1).all()
    assert (masked[differs] == 0).all()


@pytest.mark.parametrize(("num_processes", "accumulate"), [(2, 1), (1, 3), (4, 2)])
def test_processes_and_parts_share_the_very_examples_of_one(maker_of: Any, num_processes: int, accumulate: int) -> None:
    position = Position(1, 0)
    (whole,) = maker_of()[position].parts
    makers = [maker_of(rank, num_processes, accumulate=accumulate) for rank in range(num_processes)]
    parts = [part for maker in makers for part in maker[position].parts]
    assert len(parts) == num_processes * accumulate
    assert len({part.seed for part in parts}) == len(parts)  # each has dropout of its own
    row = 0
    for part in parts:
        for index in range(0 if part.batch is None else len(part.batch.texts)):
            assert part.batch.texts[index] == whole.batch.texts[row]
            num_ticks = int(part.batch.valid[index].sum())
            assert num_ticks == int(whole.batch.valid[row].sum())
            for one, other in (
                (part.batch.chunk.mel, whole.batch.chunk.mel),
                (part.batch.chunk.lips, whole.batch.chunk.lips),
            ):
                length = num_ticks * (4 if one is part.batch.chunk.mel else 1)
                assert torch.equal(one[index, :length], other[row, :length])
            assert part.batch.lips_match[index] == whole.batch.lips_match[row]
            row += 1
    assert row == len(whole.batch.texts)


def test_steps_draw_their_chunk_and_if_asked_to_their_left_context(maker_of: Any) -> None:
    places = [Position(epoch, 0) for epoch in range(80)]
    usual = [maker_of(epochs=80)._window(place) for place in places]
    assert {window.chunk_ticks for window in usual} == set(SIZES.chunk_sizes)
    assert {window.left_ticks for window in usual} == {SIZES.left_context_ticks}
    drawn = [maker_of(epochs=80, left_context_low_ticks=9)._window(place) for place in places]
    assert {window.left_ticks for window in drawn} == {9, 10, 11, 12} == set(range(9, SIZES.left_context_ticks + 1))
    assert len({(window.chunk_ticks, window.left_ticks) for window in drawn}) == 12  # each left context with each chunk
    assert [window.chunk_ticks for window in drawn] == [window.chunk_ticks for window in usual]
    everyone = [maker_of(rank, 2, epochs=80, left_context_low_ticks=9)[places[1]].window for rank in range(2)]
    assert everyone == [drawn[1]] * 2


def test_an_epoch_draws_every_clip_and_fractions_anew(corpus: PreparedCorpus) -> None:
    stage = StageConfig.model_validate({"epochs": 1, "batch_size": 3, "augment": {"join_share": 0.5}})
    sources = [Source(corpus, corpus.select("train"), repeat=1.5)]
    plans = [plan_epoch(sources, stage, epoch) for epoch in (0, 0, 1)]
    drawn = [[clip.path for batch in plan for group in batch for _, clip in group] for plan in plans]
    assert drawn[0] == drawn[1] != drawn[2]
    for paths in drawn:
        assert set(paths) == {clip.path for clip in corpus.select("train")}
        assert all(1 <= paths.count(path) <= 2 for path in paths)
    assert {len(group) for plan in plans for batch in plan for group in batch} == {1, 2}


def test_no_two_places_share_a_generator() -> None:
    places = [
        (purpose, 1, epoch, step, index)
        for purpose in RngPurpose
        for epoch in (0, 1)
        for step in (0, 1)
        for index in (0, 1)
    ]
    assert len({int(make_rng(*place).integers(1 << 62)) for place in places}) == len(places)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_everything_once_and_about_equal(num_items: int, count: int) -> None:
    shares = [share_of(num_items, index, count) for index in range(count)]
    assert [item for share in shares for item in share] == list(range(num_items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("num_joined", [1, 2])
@pytest.mark.parametrize(("kept_lips_share", "snr_db"), [(0.0, None), (1.0, None), (1.0, 0.0)])
def test_lips_beside_swapped_words_are_kept_in_clear_sound_only(
    maker_of: Any, num_joined: int, kept_lips_share: float, snr_db: float | None
) -> None:
    noisy = {} if snr_db is None else {"noise_share": 1.0, "snr_low_db": snr_db, "snr_high_db": snr_db}
    lent = AugmentConfig.model_validate({"word_swap_share": 0.3, "kept_lips_share": kept_lips_share, **noisy})
    maker = maker_of(augment=lent)
    (source, *_) = maker._sources
    group = [(source, clip) for clip in source.clips[:num_joined]]
    own = " ".join(clip.text for _, clip in group)
    outcomes = set()
    for seed in range(40):
        example = maker._example(group, np.random.default_rng(seed))
        assert example.data.heard.all()
        if example.text != own:
            seen = example.data.visible
            outcomes.add(("some" if seen.any() else "none", example.lips_match))
        elif example.lips_match:  # a word that its own text lends counts as lent
            outcomes.add(("own", example.data.visible.any()))
    kept = {("some", False)} if snr_db is None else {("none", False)}
    blinded = {("none", True)} if num_joined == 1 else {("none", True), ("some", True)}
    assert outcomes - {("own", False)} == {("own", True), *(kept if kept_lips_share else blinded)}


def test_a_voice_without_a_face_never_contradicts_its_lips(tmp_path: Path, maker_of: Any) -> None:
    made = [make_clip([word, "blue", "lay"], index) for index, word in enumerate(("bin", "lay"))]
    dark = np.zeros(made[0][0].num_ticks, np.bool_)
    write_pack(tmp_path, [(clip, replace(data, visible=dark[: clip.num_ticks])) for clip, data in made[:1]] + made[1:])
    source = Source(corpus := PreparedCorpus(tmp_path), list(corpus.clips))
    maker = maker_of(augment=AugmentConfig(word_swap_share=1.0, kept_lips_share=1.0))
    maker._word_donors = {corpus: WordDonors(corpus.clips)}
    for seed in range(10):
        assert maker._example([(source, corpus.clips[0])], np.random.default_rng(seed)).lips_match


def test_words_are_swapped_only_among_clips_with_sound(
    tmp_path: Path, features: FeatureConfig, tokenizer: Tokenizer
) -> None:
    """A film without sound would give silence in place of a word."""
    (heard, heard_data), (other, other_data), (silent, silent_data) = (
        make_clip([word, "blue", "lay"], index) for index, word in enumerate(("bin", "lay", "red"))
    )
    muted = replace(silent_data, heard=np.zeros(silent.num_ticks, np.bool_))
    write_pack(tmp_path, [(heard, heard_data), (other, other_data), (silent, muted)])
    source = Source(corpus := PreparedCorpus(tmp_path), list(corpus.clips))
    stage = StageConfig(epochs=1, augment=AugmentConfig(word_swap_share=1.0))
    maker = StepMaker([source], stage, Collator(features, tokenizer), NoiseSource([], []), SIZES)
    said: dict[str, set[str]] = {clip.text: set() for clip in corpus.clips}
    for seed in range(30):
        for clip in corpus.clips:
            example = maker._example(((source, clip),), np.random.default_rng(seed))
            said[clip.text].add(example.text)
            assert example.data.heard.any() or example.data.visible.any()
    assert said["red blue lay"] == {"red blue lay"}
    assert said["bin blue lay"] == {"bin blue lay", "lay blue lay"}
