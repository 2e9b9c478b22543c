"""Augmentation of clean clips, step by step.

    clips ─► windows, joined ─► speed ─┬─► voice ─► room ─► noise ─► microphone ────────────────┬─► a sense lost
                                       └─► place, light, focus, camera, stalls ─► late or early ┘
    and, when the sound has become a spectrogram, its masks

Everything is drawn from one generator that the caller seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from avsr.config import Section
from avsr.corpora import AlignedWord
from avsr.media.noise import mix_at_snr
from avsr.train.augment.camera import film, random_camera
from avsr.train.augment.lips import (
    bend,
    blur,
    cover,
    drop_pictures,
    freeze,
    late,
    random_bend,
    random_light,
    random_shade,
    random_turn,
    shade,
    turn_and_light,
)
from avsr.train.augment.microphone import random_microphone, record
from avsr.train.augment.noise import NoiseSource, NoiseWeights
from avsr.train.augment.reverberation import random_room, reverberate
from avsr.train.augment.senses import drop_a_sense, without_video
from avsr.train.augment.spectrum import MaskConfig
from avsr.train.augment.speed import change_speed, shift_pitch
from avsr.train.augment.timbre import equalise, random_band_gains, shift_formants
from avsr.train.packs.reader import Clip, ClipData
from avsr.types import TICK_S, TICK_SAMPLES, ByteArray, FloatArray

CLEAN_SNR_DB = 30.0
"""Training target of the SNR estimate for clean clips."""

LEAST_LEAD_S, LEAST_TAIL_S = 0.08, 0.16
"""Least margin of a window before the first word and after the last."""

CLEAR_SNR_DB = 10.0
"""From this SNR on, words are understood by sound alone."""

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Semitones = Annotated[float, Field(ge=0, le=12)]


class AugmentConfig(Section):
    """How much training examples are altered. A share is a probability per example, unless it says otherwise.

    Words and windows:
        join_share: probability per batch that its clips are joined in pairs.
        word_swap_share: probability per word to be replaced by one from the same place in another clip, for corpora of
            one grammar (see ``avsr.train.augment.words``); lower at places with fewer different words. The example then
            loses its lips, except for a ``kept_lips_share`` of those with clear sound, whose lips do not match.
        window_margin_s: greatest margin before the first and after the last word.

    Sound:
        speed: greatest relative change. ``pitch_semitones``: greatest shift up or down; formants move along, unless
            ``formant_semitones`` gives their own greatest shift.
        reverb_share: simulated rooms. ``microphone_share``: poor microphones.
        microphone_db, gain_db: greatest gain of a frequency band, and of the whole.
        noise_share, noise, snr_low_db, snr_high_db: added noise, its kinds and range.
        mask: masks in the spectrogram.

    Lips:
        lip_shift_px, lip_zoom, lip_roll_deg, lip_mirror_share: movement of the crop.
        lip_gain, lip_shade, lip_blur_px: greatest change of brightness, of one edge's brightness, and sigma of a blur.
        lip_bend_px: about how far parts of the face are displaced.
        lip_camera_share: poor cameras. ``lip_freeze_share``: a freeze of up to 0.16 s. ``lip_cover_share``: a cover of
            up to 0.6 s. ``lip_drop_share``: probability per picture to be lost.
        lip_swap_share: lips of another clip, if the sound is clear.
        av_offset_ticks: greatest offset between lips and sound.

    Missing senses, of which at most one happens: ``drop_*_share`` for a whole example, ``vanish_*_share`` for a while.
    """

    join_share: Share = 0.0
    word_swap_share: Share = 0.0
    kept_lips_share: Share = 0.0
    window_margin_s: Annotated[float, Field(ge=LEAST_TAIL_S)] = 0.6
    speed: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pitch_semitones: Semitones = 0.0
    formant_semitones: Semitones | None = None
    lip_shift_px: NotNegative = 4.0
    lip_zoom: Annotated[float, Field(ge=0, lt=1)] = 0.08
    lip_roll_deg: NotNegative = 5.0
    lip_mirror_share: Share = 0.5
    lip_gain: NotNegative = 0.25
    lip_bend_px: Annotated[float, Field(ge=0, le=12)] = 0.0
    lip_shade: Share = 0.0
    lip_blur_px: NotNegative = 0.0
    lip_camera_share: Share = 0.0
    lip_freeze_share: Share = 0.5
    lip_cover_share: Share = 0.0
    lip_drop_share: Share = 0.0
    lip_swap_share: Share = 0.0
    av_offset_ticks: Annotated[int, Field(ge=0)] = 0
    reverb_share: Share = 0.0
    microphone_share: Share = 0.0
    microphone_db: NotNegative = 0.0
    gain_db: NotNegative = 8.0
    mask: MaskConfig = MaskConfig()
    noise_share: Share = 0.0
    noise: NoiseWeights = NoiseWeights()
    snr_low_db: float = -8.0
    snr_high_db: float = 20.0
    drop_audio_share: Share = 0.0
    drop_video_share: Share = 0.0
    vanish_audio_share: Share = 0.0
    vanish_video_share: Share = 0.0

    @model_validator(mode="after")
    def _one_loss_at_most(self) -> AugmentConfig:
        shares = self.drop_audio_share + self.drop_video_share + self.vanish_audio_share + self.vanish_video_share
        if shares > 1 + 1e-9:
            raise ValueError(f"the shares of drop_* and vanish_* add up to {shares:g}; at most 1 is possible")
        return self

    @model_validator(mode="after")
    def _some_noise(self) -> AugmentConfig:
        if self.snr_low_db > self.snr_high_db:
            raise ValueError(f"snr_low_db is {self.snr_low_db:g}; it is at most snr_high_db, {self.snr_high_db:g}")
        if self.noise_share and not (self.noise.needs_recordings or self.noise.coloured):
            raise ValueError("noise_share is not 0, and the weight of every kind in noise is; give one, or no share")
        return self


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: what is heard and seen, the words' times in it (if known) and its SNR.

    ``lips_match`` is False where the lips say something else.
    """

    data: ClipData
    words: tuple[AlignedWord, ...]
    text: str
    snr_db: float
    lips_match: bool = True


def augment(
    clips: Sequence[tuple[Clip, ClipData]],
    config: AugmentConfig,
    noise: NoiseSource,
    rng: np.random.Generator,
    *,
    lips_match: bool = True,
) -> Example:
    """Cut a window around the speech of each clip, join the windows, and change the whole at random.

    Joined clips teach the network that one sentence may follow another, which a single clip never shows. If the lips of
    any clip do not match its sound, no sound is taken away, and the lips of all are, unless the sound is clear.
    """
    data, words = _joined_windows(clips, config.window_margin_s, rng)
    if config.speed:
        data, words = change_speed(data, words, 1 + rng.uniform(-1, 1) * config.speed)
    audio, snr_db = _change_sound(data.audio, config, noise, rng)
    data = replace(data, audio=audio * data.heard.repeat(TICK_SAMPLES).astype(np.float32))
    data = _change_pictures(data, config, rng)
    if not lips_match and snr_db < CLEAR_SNR_DB:
        data = without_video(data, data.visible)
    data = drop_a_sense(
        data,
        rng,
        drop_audio=config.drop_audio_share * lips_match,
        drop_video=config.drop_video_share,
        vanish_audio=config.vanish_audio_share * lips_match,
        vanish_video=config.vanish_video_share,
    )
    return Example(data, words, " ".join(clip.text for clip, _ in clips), snr_db, lips_match)


def swap_lips(example: Example, other: Callable[[], Example], share: float, rng: np.random.Generator) -> Example:
    """Give a ``share`` of examples with clear sound the lips of another one, made by calling ``other``.

    A lip encoder that was trained on few faces is confidently wrong on a new one. To fusion that looks like lips which
    say something else, so these examples teach it to trust clear sound.
    """
    clear = example.snr_db >= CLEAR_SNR_DB and example.data.heard.all()
    if rng.random() >= share or not clear:
        return example
    lips = other().data
    if not lips.visible.any():
        return example
    ticks = np.arange(example.data.num_ticks) % lips.num_ticks
    data = replace(example.data, lips=lips.lips[ticks], visible=lips.visible[ticks])
    return replace(example, data=data, lips_match=False)


def jitter_lips(lips: ByteArray, config: AugmentConfig, rng: np.random.Generator) -> ByteArray:
    """Change the crops u8 (T, 96, 96): place, light, focus and camera all along, stalls and covers here and there."""
    turn = random_turn(
        lips.shape[1],
        rng,
        shift_px=config.lip_shift_px,
        zoom=config.lip_zoom,
        roll_deg=config.lip_roll_deg,
        mirror_share=config.lip_mirror_share,
    )
    lips = turn_and_light(lips, turn, random_light(rng, config.lip_gain))
    if config.lip_bend_px:
        lips = bend(lips, random_bend(lips.shape[1], rng, config.lip_bend_px))
    if config.lip_shade:
        lips = shade(lips, random_shade(lips.shape[1], rng, config.lip_shade))
    if config.lip_blur_px:
        lips = blur(lips, rng.uniform(0, config.lip_blur_px))
    if config.lip_camera_share and rng.random() < config.lip_camera_share:
        lips = film(lips, random_camera(rng), rng)
    if rng.random() < config.lip_freeze_share:
        lips = freeze(lips, rng)
    if rng.random() < config.lip_cover_share:
        lips = cover(lips, rng)
    if config.lip_drop_share:
        lips = drop_pictures(lips, config.lip_drop_share, rng)
    return lips


def _joined_windows(
    clips: Sequence[tuple[Clip, ClipData]], margin_s: float, rng: np.random.Generator
) -> tuple[ClipData, tuple[AlignedWord, ...]]:
    pieces, words, ticks_before = [], [], 0
    for clip, data in clips:
        first, last = _window(clip, margin_s, rng)
        pieces.append(data.cut(first, last))
        shift_s = (ticks_before - first) * TICK_S
        words += [AlignedWord(word.text, word.start_s + shift_s, word.end_s + shift_s) for word in clip.words]
        ticks_before += last - first
    joined = ClipData(
        audio=np.concatenate([piece.audio for piece in pieces]),
        lips=np.concatenate([piece.lips for piece in pieces]),
        heard=np.concatenate([piece.heard for piece in pieces]),
        visible=np.concatenate([piece.visible for piece in pieces]),
    )
    # Times for some of the words would say that the others are never spoken.
    return joined, tuple(words) if all(clip.words or not clip.text for clip, _ in clips) else ()


def _window(clip: Clip, margin_s: float, rng: np.random.Generator) -> tuple[int, int]:
    """Choose first and last tick: all the words and a random margin on each side."""
    if not clip.words:
        return 0, clip.num_ticks
    start_s = clip.words[0].start_s - rng.uniform(LEAST_LEAD_S, margin_s)
    end_s = clip.words[-1].end_s + rng.uniform(LEAST_TAIL_S, margin_s)
    return max(0, int(start_s / TICK_S)), min(clip.num_ticks, round(end_s / TICK_S) + 1)


def _change_sound(
    audio: FloatArray, config: AugmentConfig, noise: NoiseSource, rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """Return the changed sound and its SNR."""
    pitch = rng.uniform(-1, 1) * config.pitch_semitones if config.pitch_semitones else 0.0
    audio = shift_pitch(audio, pitch)
    if config.formant_semitones is not None:
        audio = shift_formants(audio, rng.uniform(-1, 1) * config.formant_semitones - pitch)
    if rng.random() < config.reverb_share:
        audio = reverberate(audio, random_room(rng))
    if config.microphone_db:
        audio = equalise(audio, random_band_gains(rng, config.microphone_db))
    audio = audio * np.float32(10 ** (rng.uniform(-1, 1) * config.gain_db / 20))
    snr_db = CLEAN_SNR_DB
    if rng.random() < config.noise_share:
        snr_db = rng.uniform(config.snr_low_db, config.snr_high_db)
        audio = mix_at_snr(audio, noise.draw(len(audio), rng, config.noise), snr_db)
    if config.microphone_share and rng.random() < config.microphone_share:
        audio = record(audio, random_microphone(rng), rng)
    return audio, snr_db


def _change_pictures(data: ClipData, config: AugmentConfig, rng: np.random.Generator) -> ClipData:
    if not data.visible.any():
        return data
    lips = jitter_lips(data.lips, config, rng) * data.visible[:, None, None].astype(np.uint8)
    if not config.av_offset_ticks:
        return replace(data, lips=lips)
    offset_ticks = int(rng.integers(-config.av_offset_ticks, config.av_offset_ticks + 1))
    shown = late(data.num_ticks, offset_ticks)
    return replace(data, lips=lips[shown], visible=data.visible[shown])
