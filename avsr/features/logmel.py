"""Causal log-mel features: 80 bands, 25 ms Hann window, 10 ms hop, normalised by constants of the model bundle.

A quiet microphone's sound is amplified first (see `avsr.features.level`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torchaudio.functional as AF

from avsr.config import FeatureConfig
from avsr.features.level import LevelState
from avsr.types import HOP_SAMPLES, NUM_MELS, SAMPLE_RATE, TICK_SAMPLES, WINDOW_SAMPLES, level_db

FFT_SIZE = 512
LOWEST_HZ = 20.0
CONTEXT_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES
"""Samples before a tick that its first window reaches back to."""


@dataclass(frozen=True, slots=True)
class LogMelState:
    """The last ``CONTEXT_SAMPLES`` samples after amplification, f32 (240,), and the level of the sound."""

    context: torch.Tensor
    level: LevelState = field(default_factory=LevelState)


class LogMel:
    """Turns whole ticks of audio into log-mel frames.

    Frame j of a stream covers the 400 samples that end with sample 160 (j + 1), so a tick's four frames are ready as
    soon as the tick is. Every tick is computed by itself: the result is bit-identical however the audio is cut.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._floor = config.floor
        self._mean = torch.tensor(config.mel_mean, dtype=torch.float32)
        self._std = torch.tensor(config.mel_std, dtype=torch.float32)
        self._window = torch.hann_window(WINDOW_SAMPLES, periodic=False)
        self._bands = AF.melscale_fbanks(
            FFT_SIZE // 2 + 1, LOWEST_HZ, SAMPLE_RATE / 2, NUM_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )

    def init_state(self) -> LogMelState:
        """Return the state before the first sample: silence."""
        return LogMelState(torch.zeros(CONTEXT_SAMPLES))

    def step(self, samples: torch.Tensor, state: LogMelState) -> tuple[torch.Tensor, LogMelState]:
        """Turn ``samples`` f32 (640 n,) into normalised log-mel frames f32 (4 n, 80)."""
        samples, level = _levelled(samples, state.level)
        joined = torch.cat([state.context, samples])
        num_ticks = len(samples) // TICK_SAMPLES
        ticks = [self._frames(joined[i * TICK_SAMPLES :][: CONTEXT_SAMPLES + TICK_SAMPLES]) for i in range(num_ticks)]
        mel = torch.cat(ticks) if ticks else torch.zeros(0, NUM_MELS)
        return mel, LogMelState(joined[len(joined) - CONTEXT_SAMPLES :].clone(), level)

    def parallel(self, samples: torch.Tensor) -> torch.Tensor:
        """Compute in one go what `step` returns for a whole utterance f32 (640 n,), up to rounding: for training."""
        state = self.init_state()
        return self._frames(torch.cat([state.context, _levelled(samples, state.level)[0]]))

    def _frames(self, samples: torch.Tensor) -> torch.Tensor:
        """Compute the frames (4 n, 80) of n ticks from their samples and the context before them (240 + 640 n,)."""
        frames = samples.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES) * self._window
        power = torch.fft.rfft(frames, FFT_SIZE).abs().square()
        log_mel = (power @ self._bands).clamp_min(self._floor).log()
        normalised: torch.Tensor = (log_mel - self._mean) / self._std
        return normalised


def _levelled(samples: torch.Tensor, level: LevelState) -> tuple[torch.Tensor, LevelState]:
    """Amplify ``samples`` f32 (640 n,) where they are quiet, each tick by its own gain."""
    gains = []
    for tick in samples.view(-1, TICK_SAMPLES).numpy():
        level = level.heard(level_db(tick))
        gains.append(10 ** (level.gain_db / 20))
    if all(gain == 1 for gain in gains):
        return samples, level
    return (samples.view(-1, TICK_SAMPLES) * torch.tensor(gains)[:, None]).flatten(), level
