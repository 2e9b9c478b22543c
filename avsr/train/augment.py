"""What training does to clean clips so that the model meets the world: windows, lip jitter, noise, lost senses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from avsr.config import Section
from avsr.corpora import AlignedWord
from avsr.errors import InputError
from avsr.media.noise import babble, mix_at_snr
from avsr.train.prepared import Clip, ClipData
from avsr.types import TICK_S, ByteArray, FloatArray

CLEAN_SNR_DB = 30.0
"""What clean clips count as when the noise estimate is trained."""


Share = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Section):
    """How much is changed; shares are probabilities, ``join_share`` per batch, the others per example."""

    join_share: Share = 0.0
    window_margin_s: float = 0.6
    lip_shift_px: float = 4.0
    lip_zoom: float = 0.08
    lip_roll_deg: float = 5.0
    lip_mirror_share: Share = 0.5
    lip_gain: float = 0.25
    lip_mask_share: Share = 0.5
    gain_db: float = 8.0
    noise_share: Share = 0.0
    snr_low_db: float = -8.0
    snr_high_db: float = 20.0
    drop_audio_share: Share = 0.0
    drop_video_share: Share = 0.0


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: ``ClipData`` with masks for both senses, the words' times in it and its SNR."""

    data: ClipData
    words: tuple[AlignedWord, ...]
    text: str
    keep_audio: bool
    keep_video: bool
    snr_db: float


class NoiseSource:
    """Draws noise: babble of several speakers half of the time, else a recorded noise."""

    def __init__(self, voices: list[FloatArray], noises: list[FloatArray]) -> None:
        self._voices, self._noises = voices, noises

    def draw(self, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """Return f32 (num_samples,).

        Raises:
            InputError: there is nothing to draw from.
        """
        if not self._voices and not self._noises:
            raise InputError("noise was asked for, but there are neither voices nor noises to draw from")
        if self._voices and (not self._noises or rng.random() < 0.5):
            return babble(self._voices, num_samples, rng)
        noise = self._noises[int(rng.integers(len(self._noises)))]
        return np.resize(np.roll(noise, -int(rng.integers(len(noise)))), num_samples)


def augment(
    clips: Sequence[tuple[Clip, ClipData]], config: AugmentConfig, noise: NoiseSource, rng: np.random.Generator
) -> Example:
    """Cut a window around the speech of each clip, join the windows, and change the whole at random.

    Joined clips teach the network that one sentence may follow another, which a single clip never shows.
    """
    windows = [_window(clip, config.window_margin_s, rng) for clip, _ in clips]
    pieces, words, ticks_before = [], [], 0
    for (clip, data), (first, last) in zip(clips, windows, strict=True):
        pieces.append(data.cut(first, last))
        shift_s = (ticks_before - first) * TICK_S
        words += [AlignedWord(word.text, word.start_s + shift_s, word.end_s + shift_s) for word in clip.words]
        ticks_before += last - first
    audio = np.concatenate([piece.audio for piece in pieces])
    audio *= np.float32(10 ** (rng.uniform(-1, 1) * config.gain_db / 20))
    snr_db = CLEAN_SNR_DB
    if rng.random() < config.noise_share:
        snr_db = rng.uniform(config.snr_low_db, config.snr_high_db)
        audio = mix_at_snr(audio, noise.draw(len(audio), rng), snr_db)
    dropped = rng.random()
    lips = jitter_lips(np.concatenate([piece.lips for piece in pieces]), config, rng)
    return Example(
        data=ClipData(audio, lips, np.concatenate([piece.visible for piece in pieces])),
        # Times for some of the words would say that the others are never spoken.
        words=tuple(words) if all(clip.words or not clip.text for clip, _ in clips) else (),
        text=" ".join(clip.text for clip, _ in clips),
        keep_audio=dropped >= config.drop_audio_share,
        keep_video=not config.drop_audio_share <= dropped < config.drop_audio_share + config.drop_video_share,
        snr_db=snr_db,
    )


def jitter_lips(lips: ByteArray, config: AugmentConfig, rng: np.random.Generator) -> ByteArray:
    """Mirror, move, zoom, turn, brighten and partly cover the crops u8 (T, 96, 96), alike over the whole clip."""
    side = lips.shape[1]
    zoom = 1 + rng.uniform(-1, 1) * config.lip_zoom
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-1, 1) * config.lip_roll_deg, zoom)
    turn = turn + np.array([[0, 0, 1], [0, 0, 1]]) * rng.uniform(-1, 1, size=(2, 1)) * config.lip_shift_px
    if rng.random() < config.lip_mirror_share:
        turn = turn @ np.array([[-1, 0, side - 1], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
    gain = 1 + rng.uniform(-1, 1) * config.lip_gain
    offset = 255 * rng.uniform(-0.5, 0.5) * config.lip_gain
    levels = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
    out: ByteArray = np.stack(
        [levels[cv2.warpAffine(lip, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)] for lip in lips]
    )
    if rng.random() < config.lip_mask_share:
        # A short freeze: the network must bridge it, as it must bridge a hand before the mouth.
        length = int(rng.integers(1, 5))
        start = int(rng.integers(0, max(1, len(out) - length)))
        out[start : start + length] = out[max(0, start - 1)]
    return out


def _window(clip: Clip, margin_s: float, rng: np.random.Generator) -> tuple[int, int]:
    """Choose first and last tick: all the words and a random margin on each side."""
    if not clip.words:
        return 0, clip.num_ticks
    start_s = clip.words[0].start_s - rng.uniform(0.08, margin_s)
    end_s = clip.words[-1].end_s + rng.uniform(0.16, margin_s)
    return max(0, int(start_s / TICK_S)), min(clip.num_ticks, round(end_s / TICK_S) + 1)
