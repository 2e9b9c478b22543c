"""Scores: corpora add up, and intervals say how sure a rate is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_systems import FakeSystem, corpus, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.evaluate.bench import run
from avsr.evaluate.conditions import CLEAN, Condition
from avsr.evaluate.journal import Journal, Result
from avsr.evaluate.scores import Heard, bootstrap, compare_texts, score, score_speakers, timings
from avsr.evaluate.wer import Errors, character_errors, word_errors

RAIN = Condition("rain", 0.0)
counts = st.builds(Errors, *(st.integers(0, 3),) * 3, st.integers(1, 8))
texts = st.sampled_from(["bin blue", "bin", "place red at", "bin blue at f", ""])


@st.composite
def hearings(draw: st.DrawFn) -> list[Heard]:
    rows = []
    for index in range(draw(st.integers(1, 6))):
        for system in ("av", "audio"):
            for condition in (CLEAN, RAIN):
                said, heard = draw(texts.filter(bool)), draw(texts)
                errors = word_errors(said, heard), character_errors(said, heard)
                result = Result(heard, draw(st.none() | st.floats(0, 1)), 0.1, None, 0.2, None, 1.0, 4.0)
                rows.append(Heard(f"{index}", f"s{index % 3}", system, condition, said, heard, *errors, result))
    return rows


@settings(deadline=None, max_examples=20)
@given(hearings())
def test_speakers_add_up_to_the_corpus(rows: list[Heard]) -> None:
    speakers = score_speakers(rows)
    for total in score(rows):
        parts = [s for s in speakers if (s.system, s.condition) == (total.system, total.condition)]
        assert sum((part.words for part in parts), Errors(0, 0, 0, 0)) == total.words
        assert sum(part.num_clips for part in parts) == total.num_clips
        assert total.wer.value == pytest.approx(total.words.rate)


@settings(deadline=None, max_examples=20)
@given(hearings())
def test_scores_come_system_by_system_and_do_not_change(rows: list[Heard]) -> None:
    scores = score(rows)
    assert [(s.system, s.condition) for s in scores] == [(s, c) for s in ("av", "audio") for c in (CLEAN, RAIN)]
    assert score(rows) == scores
    assert [timing.rtf for timing in timings(rows)] == [0.25] * 4


@settings(deadline=None, max_examples=30)
@given(st.lists(counts, min_size=1, max_size=30))
def test_an_interval_lies_within_what_single_clips_have(errors: list[Errors]) -> None:
    rate, rates = bootstrap(errors), [each.rate for each in errors]
    assert min(rates) - 1e-9 <= rate.low <= rate.high <= max(rates) + 1e-9
    assert min(rates) - 1e-9 <= rate.value <= max(rates) + 1e-9


def test_an_interval_covers_the_truth_and_shrinks_with_the_corpus() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for num_clips in (50, 200):
        rates = [bootstrap([Errors(int(rng.binomial(6, 0.2)), 0, 0, 6) for _ in range(num_clips)]) for _ in range(25)]
        assert sum(rate.low <= 0.2 <= rate.high for rate in rates) >= 20
        widths.append(np.mean([rate.high - rate.low for rate in rates]))
    assert widths[0] / widths[1] == pytest.approx(2.0, rel=0.1)


def test_clips_without_words_are_drawn_too() -> None:
    assert bootstrap([Errors(0, 0, 1, 0), Errors(0, 0, 0, 4)]).value == 0.25
    rate = bootstrap([Errors(0, 0, 0, 0), Errors(1, 0, 0, 4)])
    assert (rate.value, rate.low, rate.high) == (0.25, 0.25, 0.25)  # some draws have no word at all
    for nothing in ([], [Errors(0, 0, 1, 0)]):
        with pytest.raises(InputError, match="no reference"):
            bootstrap(nothing)


def test_normalisation_decides_what_is_an_error_and_needs_no_new_run(tmp_path: Path, babble: Path) -> None:
    clips = corpus(tmp_path, babble)
    plan = plan_of(clips, FakeSystem(), conditions=[CLEAN])
    with Journal(tmp_path, {}) as journal:
        run(plan, journal)
        key = next(iter(journal.results))
        journal.results[key] = Result("BIN blue, at f two now!", *(None,) * 5, 1.0, 4.0)
        (basic,), (none,) = (score(compare_texts(plan, journal, (), norm)) for norm in ("basic", "none"))
        (two,) = score(compare_texts(plan, journal, ["2.mp4"], "basic"))
    assert (basic.words.total, none.words.total) == (2, 2 + 3)
    assert (basic.words.num_reference, two.words.num_reference) == (18, 12)
    assert basic.audio_weight == 0.75
