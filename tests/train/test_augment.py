"""Augmentation changes a clip, never its truth: all words stay inside, all senses stay as long as each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from toy_clips import WORDS

from avsr.media.noise import active_rms
from avsr.train.augment.examples import (
    CLEAN_SNR_DB,
    CLEAR_SNR_DB,
    AugmentConfig,
    Example,
    augment,
    jitter_lips,
    swap_lips,
)
from avsr.train.augment.noise import NoiseSource, NoiseWeights
from avsr.train.packs.reader import ClipData, PreparedCorpus
from avsr.types import LIP_SIZE, TICK_S, TICK_SAMPLES

PLAIN = AugmentConfig(
    lip_shift_px=0.0,
    lip_zoom=0.0,
    lip_roll_deg=0.0,
    lip_mirror_share=0.0,
    lip_gain=0.0,
    lip_freeze_share=0.0,
    gain_db=0.0,
)
WHITE = NoiseSource([], [np.random.default_rng(0).normal(scale=0.1, size=20_000).astype(np.float32)])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1 << 30), st.integers(0, 11), st.floats(0.2, 2.0))
def test_all_words_stay_inside_and_senses_equally_long(
    corpus: PreparedCorpus, seed: int, index: int, window_margin_s: float
) -> None:
    clip = corpus.clips[index]
    data = corpus.load(clip)
    config = AugmentConfig(window_margin_s=window_margin_s, noise_share=0.5)
    example = augment([(clip, data)], config, WHITE, np.random.default_rng(seed))
    num_ticks = len(example.data.visible)
    assert len(example.data.audio) == TICK_SAMPLES * num_ticks
    assert example.data.lips.shape == (num_ticks, LIP_SIZE, LIP_SIZE)
    assert example.data.audio.dtype == np.float32
    assert example.data.lips.dtype == np.uint8
    assert num_ticks <= clip.num_ticks
    assert [word.text for word in example.words] == example.text.split() == clip.text.split()
    assert example.words[0].start_s >= -1e-9
    assert example.words[-1].end_s <= num_ticks * TICK_S + 1e-9
    assert np.isfinite(example.data.audio).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window_margin_s": 0.1}, "window_margin_s"),
        ({"gain_db": -1.0}, "gain_db"),
        ({"lip_shift_px": float("inf")}, "lip_shift_px"),
        ({"snr_low_db": 5.0, "snr_high_db": 0.0}, "snr_low_db is 5; it is at most snr_high_db, 0"),
        ({"noise_share": 0.5, "noise": {"babble": 0.0, "recorded": 0.0}}, "the weight of every kind in noise is"),
    ],
    ids=str,
)
def test_what_could_not_be_drawn_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AugmentConfig.model_validate(wrong)


def test_words_move_with_the_window(corpus: PreparedCorpus) -> None:
    clip = corpus.clips[0]
    data = corpus.load(clip)
    example = augment([(clip, data)], PLAIN, WHITE, np.random.default_rng(1))
    shift_s = clip.words[0].start_s - example.words[0].start_s
    first = round(shift_s / TICK_S)
    assert first > 0
    assert shift_s == pytest.approx(first * TICK_S)
    num_ticks = len(example.data.visible)
    assert np.array_equal(example.data.audio, data.audio[first * TICK_SAMPLES : (first + num_ticks) * TICK_SAMPLES])
    assert np.array_equal(example.data.lips, data.lips[first : first + num_ticks])


def test_noise_is_as_loud_as_it_says(corpus: PreparedCorpus) -> None:
    clip = corpus.clips[1]
    data = corpus.load(clip)
    seen = set()
    for seed in range(12):
        config = PLAIN.model_copy(update={"noise_share": 1.0, "snr_low_db": -5.0, "snr_high_db": 15.0})
        noisy = augment([(clip, data)], config, WHITE, np.random.default_rng(seed))
        quiet = augment(
            [(clip, data)], PLAIN.model_copy(update={"noise_share": 1e-12}), WHITE, np.random.default_rng(seed)
        )
        assert quiet.snr_db == CLEAN_SNR_DB
        # What was turned down to fit full scale was turned down as a whole.
        scale = float(np.dot(noisy.data.audio, quiet.data.audio) / np.dot(quiet.data.audio, quiet.data.audio))
        noise = noisy.data.audio - scale * quiet.data.audio
        snr_db = 20 * np.log10(scale * active_rms(quiet.data.audio) / np.sqrt(np.mean(noise.astype(np.float64) ** 2)))
        assert snr_db == pytest.approx(noisy.snr_db, abs=0.6)
        assert -5.0 <= noisy.snr_db <= 15.0
        seen.add(round(noisy.snr_db))
    assert len(seen) > 5


def test_a_sense_is_dropped_as_often_as_asked_and_never_both(corpus: PreparedCorpus) -> None:
    clip = corpus.clips[2]
    data = corpus.load(clip)
    config = PLAIN.model_copy(update={"drop_audio_share": 0.3, "drop_video_share": 0.5})
    rng = np.random.default_rng(4)
    drawn = [augment([(clip, data)], config, WHITE, rng).data for _ in range(100)]
    kept = [(bool(data.heard.any()), bool(data.visible.any())) for data in drawn]
    assert all(data.audio.any() == data.heard.any() and data.lips.any() == data.visible.any() for data in drawn)
    assert (False, False) not in kept
    assert np.mean([not audio for audio, _ in kept]) == pytest.approx(0.3, abs=0.1)
    assert np.mean([not video for _, video in kept]) == pytest.approx(0.5, abs=0.1)


def test_lips_are_left_alone_where_nothing_is_asked_for() -> None:
    lips = np.random.default_rng(1).integers(0, 256, (5, LIP_SIZE, LIP_SIZE)).astype(np.uint8)
    assert np.array_equal(jitter_lips(lips, PLAIN, np.random.default_rng(1)), lips)


def test_mirrored_lips_are_mirrored_about_the_middle() -> None:
    lips = np.random.default_rng(1).integers(0, 256, (2, LIP_SIZE, LIP_SIZE)).astype(np.uint8)
    mirrored = jitter_lips(lips, PLAIN.model_copy(update={"lip_mirror_share": 1.0}), np.random.default_rng(1))
    assert np.array_equal(mirrored, lips[:, :, ::-1])


@pytest.mark.parametrize("num_ticks", [1, 2, 30])
def test_jitter_is_alike_over_the_whole_clip(num_ticks: int) -> None:
    lip = np.random.default_rng(1).integers(0, 256, (LIP_SIZE, LIP_SIZE)).astype(np.uint8)
    moved = jitter_lips(np.stack([lip] * num_ticks), AugmentConfig(), np.random.default_rng(num_ticks))
    assert (moved == moved[0]).all()
    assert not np.array_equal(moved[0], lip)


EVERYTHING = AugmentConfig(
    join_share=0.5,
    speed=0.1,
    pitch_semitones=3.0,
    lip_bend_px=4.0,
    lip_shade=0.5,
    lip_blur_px=2.0,
    lip_camera_share=0.5,
    lip_cover_share=0.5,
    lip_drop_share=0.1,
    av_offset_ticks=2,
    reverb_share=0.5,
    microphone_share=0.5,
    noise_share=0.7,
    noise=NoiseWeights(talker=1.0, coloured=1.0),
    snr_low_db=-10.0,
    drop_audio_share=0.1,
    drop_video_share=0.1,
    vanish_audio_share=0.2,
    vanish_video_share=0.2,
)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 11), min_size=1, max_size=2))
def test_with_everything_at_once_senses_stay_equally_long_and_words_inside(
    corpus: PreparedCorpus, seed: int, indices: list[int]
) -> None:
    clips = [(corpus.clips[index], corpus.load(corpus.clips[index])) for index in indices]
    before = [data.copy() for _, data in clips]
    source = NoiseSource([data.audio for _, data in clips], [clips[0][1].audio])
    example = augment(clips, EVERYTHING, source, np.random.default_rng(seed))
    again = augment(clips, EVERYTHING, source, np.random.default_rng(seed))
    data = example.data
    assert data.audio.shape == (data.num_ticks * TICK_SAMPLES,)
    assert data.lips.shape == (data.num_ticks, LIP_SIZE, LIP_SIZE)
    assert data.heard.shape == data.visible.shape == (data.num_ticks,)
    assert (data.audio.dtype, data.lips.dtype) == (np.float32, np.uint8)
    assert np.isfinite(data.audio).all()
    assert (data.heard | data.visible).all()
    assert not data.audio.reshape(-1, TICK_SAMPLES)[~data.heard].any()
    assert not data.lips[~data.visible].any()
    assert [word.text for word in example.words] == example.text.split()
    assert all(0 <= word.start_s <= word.end_s <= data.num_ticks * TICK_S + TICK_S for word in example.words)
    assert np.array_equal(data.audio, again.data.audio)
    assert np.array_equal(data.lips, again.data.lips)
    for (_, given_data), kept in zip(clips, before, strict=True):
        assert np.array_equal(given_data.audio, kept.audio)
        assert np.array_equal(given_data.lips, kept.lips)


def test_a_recording_without_pictures_is_never_silenced(corpus: PreparedCorpus) -> None:
    clip = corpus.clips[0]
    data = corpus.load(clip)
    data = replace(data, lips=np.zeros_like(data.lips), visible=np.zeros_like(data.visible))
    config = EVERYTHING.model_copy(update={"drop_audio_share": 0.5, "vanish_audio_share": 0.5})
    for seed in range(20):
        example = augment([(clip, data)], config, WHITE, np.random.default_rng(seed))
        assert example.data.heard.all()
        assert not example.data.lips.any()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1 << 30))
def test_lips_that_say_something_else_are_seen_beside_clear_sound_only(corpus: PreparedCorpus, seed: int) -> None:
    clip = corpus.clips[0]
    config = EVERYTHING.model_copy(
        update={"drop_audio_share": 0.5, "vanish_audio_share": 0.3, "drop_video_share": 0.0, "vanish_video_share": 0.0}
    )
    pair = [(clip, corpus.load(clip))]
    example = augment(pair, config, WHITE, np.random.default_rng(seed), lips_match=False)
    assert example.data.heard.all()
    assert not example.lips_match
    assert example.data.visible.any() == (example.snr_db >= CLEAR_SNR_DB)


def test_losses_that_add_up_to_more_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to"):
        AugmentConfig(drop_audio_share=0.6, vanish_video_share=0.5)


def test_joined_clips_follow_each_other(corpus: PreparedCorpus) -> None:
    first, second = ((clip, corpus.load(clip)) for clip in corpus.clips[:2])
    example = augment([first, second], PLAIN, WHITE, np.random.default_rng(2))
    assert (
        [word.text for word in example.words] == example.text.split() == (first[0].text + " " + second[0].text).split()
    )
    assert len(example.data.audio) == TICK_SAMPLES * len(example.data.visible)
    for word in example.words:
        middle = round((word.start_s + word.end_s) / 2 / TICK_S)
        assert example.data.lips[middle, 0, 0] == pytest.approx(50 * WORDS.index(word.text), abs=3)


def test_words_without_times_take_the_times_of_their_neighbours_away(corpus: PreparedCorpus) -> None:
    first, second = ((clip, corpus.load(clip)) for clip in corpus.clips[:2])
    untimed = replace(second[0], words=()), second[1]
    assert augment([first, untimed], PLAIN, WHITE, np.random.default_rng(2)).words == ()


def test_only_clear_speech_gets_the_lips_of_another() -> None:
    def example(shade: int, num_ticks: int, snr_db: float) -> Example:
        lips = np.full((num_ticks, LIP_SIZE, LIP_SIZE), shade, np.uint8)
        sound = np.zeros(num_ticks * TICK_SAMPLES, np.float32)
        there = np.ones(num_ticks, np.bool_)
        return Example(ClipData(sound, lips, there, there), (), "", snr_db)

    other = example(4, 7, 0.0)
    for clean in (example(1, 5, CLEAN_SNR_DB), example(3, 9, 10.0)):
        swapped = swap_lips(clean, lambda: other, 1.0, np.random.default_rng(0))
        assert (swapped.data.lips == 4).all()
        assert not swapped.lips_match
        assert len(swapped.data.lips) == len(swapped.data.visible) == clean.data.num_ticks

    def never() -> Example:
        raise AssertionError("made for nothing")

    assert swap_lips(other, never, 1.0, np.random.default_rng(0)) is other
    assert swap_lips(clean, never, 0.0, np.random.default_rng(0)) is clean
