"""Laws of the log-mel stage."""

from __future__ import annotations

from itertools import pairwise

import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.config import FeatureConfig
from avsr.features import LogMel
from avsr.features.logmel import CONTEXT_SAMPLES, FFT_SIZE, LOWEST_HZ
from avsr.types import HOP_SAMPLES, NUM_MELS, SAMPLE_RATE, TICK_SAMPLES, WINDOW_SAMPLES

PLAIN = FeatureConfig(mel_mean=(0.0,) * NUM_MELS, mel_std=(1.0,) * NUM_MELS)
TICKS = 20


def noise(num_ticks: int = TICKS) -> torch.Tensor:
    return 0.1 * torch.randn(num_ticks * TICK_SAMPLES, generator=torch.Generator().manual_seed(3))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, TICKS), max_size=6))
def test_packet_size_never_changes_features(cuts: list[int]) -> None:
    log_mel, samples = LogMel(PLAIN), noise()
    whole, _ = log_mel.step(samples, log_mel.init_state())
    edges = [0, *sorted(cuts), TICKS]
    state, pieces = log_mel.init_state(), []
    for start, end in pairwise(edges):
        mel, state = log_mel.step(samples[start * TICK_SAMPLES : end * TICK_SAMPLES], state)
        pieces.append(mel)
    assert torch.equal(torch.cat(pieces), whole)


def test_parallel_features_equal_streamed_ones() -> None:
    log_mel, samples = LogMel(PLAIN), noise()
    streamed, _ = log_mel.step(samples, log_mel.init_state())
    torch.testing.assert_close(log_mel.parallel(samples), streamed, atol=1e-5, rtol=1e-5)


def test_features_equal_torchaudio_mel_spectrogram() -> None:
    samples = noise()
    mel, _ = LogMel(PLAIN).step(samples, LogMel(PLAIN).init_state())
    reference = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE,
        FFT_SIZE,
        WINDOW_SAMPLES,
        HOP_SAMPLES,
        f_min=LOWEST_HZ,
        n_mels=NUM_MELS,
        window_fn=lambda size: torch.hann_window(size, periodic=False),
        center=False,
        norm="slaney",
        mel_scale="slaney",
    )
    # torchaudio puts the window in the middle of the FFT; a magnitude does not see where its zeros are.
    margin = (FFT_SIZE - WINDOW_SAMPLES) // 2
    padded = torch.nn.functional.pad(samples, (CONTEXT_SAMPLES + margin, margin))
    expected = reference(padded).clamp_min(PLAIN.floor).log().T
    torch.testing.assert_close(mel, expected[: len(mel)], atol=1e-3, rtol=1e-3)


def test_future_samples_never_change_a_frame() -> None:
    log_mel, samples = LogMel(PLAIN), noise()
    changed = samples.clone()
    changed[10 * TICK_SAMPLES :] = 0
    first, _ = log_mel.step(samples, log_mel.init_state())
    second, _ = log_mel.step(changed, log_mel.init_state())
    assert torch.equal(first[:40], second[:40])
    assert not torch.equal(first[40:44], second[40:44])


def test_digital_silence_gives_the_floor() -> None:
    mel, _ = LogMel(PLAIN).step(torch.zeros(TICK_SAMPLES), LogMel(PLAIN).init_state())
    torch.testing.assert_close(mel, torch.full_like(mel, PLAIN.floor).log())
