"""The same scores as flashlight's CTC decoder (the one inside torchaudio), where both searches are exact."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from decode_names import Say

from avsr.config import DecodeConfig
from avsr.decode import BeamSearch, Tokenizer
from avsr.types import FloatArray

flashlight = pytest.importorskip("flashlight.lib.text.decoder", reason="pip install flashlight-text")

Tokens = tuple[int, ...]


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


@pytest.mark.parametrize("seed", range(4))
def test_the_best_agree_on_what_looks_like_speech(grid: Tokenizer, say: Say, seed: int) -> None:
    log_probs = say(grid, "place red with q seven soon", seed=seed, doubt=2.5)
    log_probs[:, grid.unknown_id] = -30.0
    beam = BeamSearch(DecodeConfig(beam_size=200, top_k=126), grid)
    hypotheses, _ = beam.step(log_probs, beam.init_state())
    theirs = _flashlight_scores(log_probs, beam_size=400)
    ranked = sorted(theirs, key=lambda tokens: -theirs[tokens])
    assert [h.tokens for h in hypotheses[:5]] == ranked[:5]
    assert [h.score for h in hypotheses[:5]] == pytest.approx([theirs[tokens] for tokens in ranked[:5]], abs=2e-3)


@pytest.mark.parametrize("clip", range(3))
def test_the_best_agree_on_real_speech(grid: Tokenizer, clip: int) -> None:
    """What an audio model (half trained, hence doubtful) made of three GRID clips of 3 s, as float16."""
    with np.load(Path(__file__).with_name("grid_log_probs.npz")) as file:
        log_probs = file["log_probs"][clip].astype(np.float32)
    log_probs[:, grid.unknown_id] = -30.0
    beam = BeamSearch(DecodeConfig(beam_size=200, top_k=126), grid)
    hypotheses, _ = beam.step(log_probs, beam.init_state())
    theirs = _flashlight_scores(log_probs, beam_size=300)
    ranked = sorted(theirs, key=lambda tokens: -theirs[tokens])
    assert [h.tokens for h in hypotheses[:5]] == ranked[:5]
    assert [h.score for h in hypotheses[:5]] == pytest.approx([theirs[tokens] for tokens in ranked[:5]], abs=2e-3)


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
