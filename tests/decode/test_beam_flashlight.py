"""The same scores as flashlight's CTC decoder (the one inside torchaudio), where both searches are exact."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from decode_names import Say

import avsr
from avsr import Recognizer, load_model
from avsr.config import DecodeConfig
from avsr.corpora import read_senses
from avsr.decode import BeamSearch, Tokenizer
from avsr.media import mix_at_snr
from avsr.types import LIP_SIZE, AvChunk, FloatArray

flashlight = pytest.importorskip("flashlight.lib.text.decoder", reason="pip install flashlight-text")

Tokens = tuple[int, ...]
SPEECH = slice(10, 36)
"""Ticks of the demo clip in which the first words are said."""
DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"


@pytest.mark.parametrize("seed", range(8))
def test_all_scores_agree_on_noise(letters: Tokenizer, noise: Say, seed: int) -> None:
    few = [0, 2, 3, 4]
    log_probs = noise(seed, 6, letters.vocab_size, spread=1.5)
    log_probs[:, [i for i in range(letters.vocab_size) if i not in few]] = -np.inf
    beam = BeamSearch(DecodeConfig(beam_size=5000, top_k=100), letters)
    hypotheses, _ = beam.step(log_probs, beam.init_state())
    theirs = _flashlight_scores(log_probs[:, few], beam_size=5000)
    renamed = {tuple(few[token] for token in tokens): score for tokens, score in theirs.items()}
    assert {h.tokens for h in hypotheses} == set(renamed)
    assert [h.score for h in hypotheses] == pytest.approx([renamed[h.tokens] for h in hypotheses], abs=1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_the_best_agree_on_what_looks_like_speech(grid: Tokenizer, say: Say, seed: int) -> None:
    log_probs = say(grid, "place red with q seven soon", seed=seed, doubt=2.5)
    log_probs[:, grid.unknown_id] = -30.0
    beam = BeamSearch(DecodeConfig(beam_size=200, top_k=126), grid)
    hypotheses, _ = beam.step(log_probs, beam.init_state())
    theirs = _flashlight_scores(log_probs, beam_size=400)
    ranked = sorted(theirs, key=lambda tokens: -theirs[tokens])
    assert [h.tokens for h in hypotheses[:5]] == ranked[:5]
    assert [h.score for h in hypotheses[:5]] == pytest.approx([theirs[tokens] for tokens in ranked[:5]], abs=2e-3)


@pytest.fixture(scope="module")
def model() -> Recognizer:
    return load_model()


@pytest.mark.parametrize("snr_db", [20.0, -5.0])
def test_the_best_agree_on_real_speech(model: Recognizer, snr_db: float) -> None:
    """What the default model makes of the demo clip's sound, from sure to doubtful: a few words, likely tokens."""
    log_probs = _hear(model, snr_db)[SPEECH]
    few = [0, *sorted(set(np.argsort(-log_probs.max(axis=0))[:8].tolist()) - {0})]
    log_probs[:, [i for i in range(log_probs.shape[1]) if i not in few]] = -np.inf
    beam = BeamSearch(DecodeConfig(beam_size=2000, top_k=100), model.tokenizer)
    hypotheses, _ = beam.step(log_probs, beam.init_state())
    theirs = _flashlight_scores(log_probs[:, few], beam_size=6000)
    renamed = {tuple(few[token] for token in tokens): score for tokens, score in theirs.items()}
    best = sorted(renamed, key=lambda tokens: -renamed[tokens])[:5]
    assert [h.tokens for h in hypotheses[:5]] == best
    assert [h.score for h in hypotheses[:5]] == pytest.approx([renamed[tokens] for tokens in best], abs=2e-3)


@torch.inference_mode()
def _hear(model: Recognizer, snr_db: float) -> FloatArray:
    senses = read_senses(DEMO_CLIP, "audio")
    noise = np.random.default_rng(1).standard_normal(len(senses.samples)).astype(np.float32)
    samples = torch.from_numpy(mix_at_snr(senses.samples, noise, snr_db))
    mel, _ = model.log_mel.step(samples, model.log_mel.init_state())
    heard = torch.from_numpy(senses.heard)[None]
    dark = torch.zeros(1, senses.num_ticks, LIP_SIZE, LIP_SIZE, dtype=torch.uint8)
    chunk = AvChunk(mel[None], dark, heard, torch.zeros_like(heard))
    log_probs, _ = model.network.step(chunk, model.network.init_state(), 8)
    return log_probs.values[0].numpy().copy()


def _flashlight_scores(log_probs: FloatArray, beam_size: int) -> dict[Tokens, float]:
    num_ticks, vocab_size = log_probs.shape
    options = flashlight.LexiconFreeDecoderOptions(
        beam_size=beam_size,
        beam_size_token=vocab_size,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=flashlight.CriterionType.CTC,
    )
    decoder = flashlight.LexiconFreeDecoder(options, flashlight.ZeroLM(), 0, 0, [])
    emissions = np.ascontiguousarray(log_probs, dtype=np.float32)
    # It keeps alignments that end in the blank apart from those that do not: add the two.
    scores: dict[Tokens, float] = defaultdict(lambda: -np.inf)
    for result in decoder.decode(emissions.ctypes.data, num_ticks, vocab_size):
        path = result.tokens[1 : num_ticks + 1]
        tokens = tuple(token for token, _ in itertools.groupby(path) if token != 0)
        scores[tokens] = float(np.logaddexp(scores[tokens], result.score))
    return dict(scores)
