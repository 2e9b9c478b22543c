from __future__ import annotations

import itertools
import pickle
from collections import defaultdict

import numpy as np
import pytest
from decode_names import Say
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.config import DecodeConfig
from avsr.decode import BeamSearch, Tokenizer
from avsr.decode.beam import Hypothesis
from avsr.errors import InputError
from avsr.types import FloatArray

WIDE = DecodeConfig(beam_size=2000, top_k=1000)
NARROW = DecodeConfig(beam_size=6, top_k=5)


@given(seed=st.integers(0, 2**32 - 1), num_ticks=st.integers(0, 5), spread=st.sampled_from([0.5, 3.0]))
@settings(deadline=None, max_examples=40)
def test_scores_are_the_sums_over_all_alignments(
    letters: Tokenizer, noise: Say, seed: int, num_ticks: int, spread: float
) -> None:
    """Against all alignments written out, for an alphabet of three tokens and the blank."""
    few = [0, 2, 3, 4]
    log_probs = _only(noise(seed, num_ticks, letters.vocab_size, spread), few)
    beam = BeamSearch(WIDE, letters)
    hypotheses, _ = beam.step(log_probs, beam.init_state())

    sums: dict[tuple[int, ...], float] = defaultdict(lambda: -np.inf)
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(few, repeat=num_ticks):
        tokens = tuple(token for token, _ in itertools.groupby(path) if token != 0)
        score = float(sum(np.float64(log_probs[tick, token]) for tick, token in enumerate(path)))
        sums[tokens] = float(np.logaddexp(sums[tokens], score))
        best[tokens] = max(best.get(tokens, (-np.inf, ())), (score, path))

    assert {h.tokens: pytest.approx(h.score, abs=1e-9) for h in hypotheses} == dict(sums)
    for hypothesis in hypotheses:
        _assert_alignment(hypothesis, best[hypothesis.tokens][1], log_probs)


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 30), max_size=6))
@settings(deadline=None, max_examples=25)
def test_chunk_size_never_changes_hypotheses(letters: Tokenizer, noise: Say, seed: int, cuts: list[int]) -> None:
    log_probs = noise(seed, 30, letters.vocab_size, spread=2.0)
    beam = BeamSearch(NARROW, letters)
    whole, _ = beam.step(log_probs, beam.init_state())
    state, hypotheses = beam.init_state(), beam.nbest(beam.init_state())
    for chunk in np.split(log_probs, sorted(cuts)):
        hypotheses, state = beam.step(chunk, state)
    assert hypotheses == whole


def test_step_never_changes_the_state_it_is_given(letters: Tokenizer, noise: Say) -> None:
    beam = BeamSearch(NARROW, letters)
    log_probs = noise(1, 20, letters.vocab_size, spread=2.0)
    _, state = beam.step(log_probs, beam.init_state())
    before = pickle.dumps(state)
    first, _ = beam.step(log_probs, state)
    second, _ = beam.step(log_probs, state)
    beam.split(state, next(i for i, token in enumerate(state.tokens) if i and letters.is_word_start(token)))
    assert pickle.dumps(state) == before
    assert first == second


def test_a_stream_goes_on_in_another_process(letters: Tokenizer, noise: Say) -> None:
    log_probs = noise(2, 600, letters.vocab_size, spread=3.0)
    beam = BeamSearch(NARROW, letters)
    _, state = beam.step(log_probs[:500], beam.init_state())
    moved = pickle.loads(pickle.dumps(state))
    assert BeamSearch(NARROW, letters).step(log_probs[500:], moved)[0] == beam.step(log_probs[500:], state)[0]


def test_hypotheses_are_sorted_and_distinct(grid: Tokenizer, noise: Say) -> None:
    beam = BeamSearch(DecodeConfig(beam_size=16), grid)
    hypotheses, _ = beam.step(noise(3, 80, grid.vocab_size, spread=3.0), beam.init_state())
    scores = [h.score for h in hypotheses]
    assert scores == sorted(scores, reverse=True)
    assert len({h.tokens for h in hypotheses}) == len(hypotheses) == 16


def test_tokens_carry_the_ticks_at_which_they_were_said(grid: Tokenizer, say: Say) -> None:
    beam = BeamSearch(NARROW, grid)
    hypotheses, _ = beam.step(say(grid, "bin blue blue", gap=3, before=5), beam.init_state(start_tick=100))
    assert grid.decode(hypotheses[0].tokens) == "bin blue blue"
    assert hypotheses[0].ticks == hypotheses[0].end_ticks == (105, 109, 113)
    assert all(0.9 < confidence <= 1 for confidence in hypotheses[0].confidences)


def test_commit_leaves_only_what_agrees(letters: Tokenizer, noise: Say) -> None:
    beam = BeamSearch(DecodeConfig(beam_size=30, top_k=10), letters)
    _, state = beam.step(_only(noise(5, 12, letters.vocab_size, spread=2.0), [0, 2, 3, 4]), beam.init_state())
    mark = letters.encode("a")[0]
    num_tokens = next(i for i, token in enumerate(state.tokens) if i and token == mark)
    committed = beam.commit(state, num_tokens)
    assert 0 < len(committed.prefixes) < len(state.prefixes)
    assert {p.tokens[: num_tokens + 1] for p in committed.prefixes} == {(*state.tokens[:num_tokens], mark)}
    assert beam.num_agreed_tokens(committed) >= num_tokens


def test_split_goes_on_as_if_nothing_was_cut(letters: Tokenizer, noise: Say) -> None:
    beam = BeamSearch(NARROW, letters)
    log_probs = _only(noise(5, 24, letters.vocab_size, spread=2.0), [0, 2, 3, 4])
    _, state = beam.step(log_probs[:12], beam.init_state())
    num_tokens = next(i for i, token in enumerate(state.tokens) if i and letters.is_word_start(token))
    whole, _ = beam.step(log_probs[12:], beam.commit(state, num_tokens))
    rest, _ = beam.step(log_probs[12:], beam.split(state, num_tokens))
    assert [h.tokens for h in rest] == [h.tokens[num_tokens:] for h in whole]
    assert [h.ticks for h in rest] == [h.ticks[num_tokens:] for h in whole]
    differences = [a.score - b.score for a, b in zip(whole, rest, strict=True)]
    assert differences == pytest.approx([differences[0]] * len(whole))


def test_the_unknown_piece_is_never_said(letters: Tokenizer, noise: Say) -> None:
    log_probs = noise(0, 10, letters.vocab_size)
    log_probs[:, letters.unknown_id] = 0.0
    beam = BeamSearch(WIDE.model_copy(update={"beam_size": 50}), letters)
    hypotheses, _ = beam.step(log_probs, beam.init_state())
    assert all(letters.unknown_id not in h.tokens for h in hypotheses)


def test_what_cannot_be_searched_is_refused(letters: Tokenizer, noise: Say) -> None:
    beam = BeamSearch(NARROW, letters)
    good = noise(0, 4, letters.vocab_size)
    for bad, words in (
        (good[:, :-1], "this tokenizer needs"),
        (good[0], "this tokenizer needs"),
        (good * np.nan, "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            beam.step(bad, beam.init_state())
    with pytest.raises(InputError, match="tick 7"):
        beam.step(np.full_like(good, -np.inf), beam.init_state(start_tick=7))


def test_the_state_of_a_silent_stream_never_grows(letters: Tokenizer) -> None:
    log_probs = np.full((3000, letters.vocab_size), -12.0, np.float32)
    log_probs[:, 0] = np.log1p(-np.exp(-12.0) * (letters.vocab_size - 1))
    beam = BeamSearch(NARROW, letters)
    _, state = beam.step(log_probs[:100], beam.init_state())
    size = len(pickle.dumps(state))
    _, state = beam.step(log_probs[100:], state)
    assert len(pickle.dumps(state)) <= size * 1.5


def _only(log_probs: FloatArray, tokens: list[int]) -> FloatArray:
    kept = np.full_like(log_probs, -np.inf)
    kept[:, tokens] = log_probs[:, tokens]
    return kept


def _assert_alignment(hypothesis: Hypothesis, path: tuple[int, ...], log_probs: FloatArray) -> None:
    runs, tick = [], 0
    for token, group in itertools.groupby(path):
        length = len(list(group))
        if token != 0:
            runs.append((token, tick, tick + length - 1, float(np.exp(log_probs[tick : tick + length, token].max()))))
        tick += length
    assert hypothesis.tokens == tuple(run[0] for run in runs)
    assert hypothesis.ticks == tuple(run[1] for run in runs)
    assert hypothesis.end_ticks == tuple(run[2] for run in runs)
    assert hypothesis.confidences == pytest.approx([run[3] for run in runs], rel=1e-5)
