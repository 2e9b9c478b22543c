from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from decode_names import GRID_WORDS, Say
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avsr.config import DecodeConfig
from avsr.decode import BeamSearch, Captioner, CaptionerInput, Hotword, Tokenizer
from avsr.decode.beam import Hypothesis
from avsr.decode.captioner import AFTERTHOUGHT_TICKS
from avsr.errors import InputError
from avsr.types import TICK_S, Caption, FloatArray

CONFIG = DecodeConfig(beam_size=6, top_k=8, endpoint_silence_s=0.4, max_segment_s=4.0, stable_ticks=6)
SEEDS = st.integers(0, 2**32 - 1)
CUTS = st.lists(st.integers(0, 240), max_size=12)


@given(seed=SEEDS, cuts=CUTS, spread=st.sampled_from([1.0, 3.0, 6.0]))
@settings(deadline=None, max_examples=8)
def test_the_stable_prefix_is_never_revised(
    letters: Tokenizer, noise: Say, seed: int, cuts: list[int], spread: float
) -> None:
    captions = _run(letters, _babble(noise, letters, seed, spread), cuts)
    for earlier, later in itertools.pairwise(captions):
        if earlier.segment == later.segment:
            assert later.text[: earlier.stable_chars] == earlier.text[: earlier.stable_chars]
            assert later.stable_chars >= earlier.stable_chars
            assert later.revision == earlier.revision + 1
            assert not earlier.is_final
        else:
            assert (earlier.is_final, later.segment, later.revision) == (True, earlier.segment + 1, 0)
    for caption in captions:
        head, tail = caption.text[: caption.stable_chars], caption.text[caption.stable_chars :]
        assert not head or head[-1] != " "
        assert not head or not tail or tail[0] == " "  # whole words


@given(seed=SEEDS, cuts=CUTS, spread=st.sampled_from([1.0, 3.0, 6.0]))
@example(seed=94, cuts=[], spread=1.0)  # a word that comes to nothing is seen only by who looks at every tick
@settings(deadline=None, max_examples=8)
def test_chunk_size_never_changes_finals(
    letters: Tokenizer, noise: Say, seed: int, cuts: list[int], spread: float
) -> None:
    log_probs = _babble(noise, letters, seed, spread)
    one_by_one = _finals(_run(letters, log_probs, range(len(log_probs))))
    assert _finals(_run(letters, log_probs, cuts)) == one_by_one
    assert [caption.segment for caption in one_by_one] == list(range(len(one_by_one)))
    assert all(caption.words for caption in one_by_one)
    words = [word for caption in one_by_one for word in caption.words]
    assert all(word.start_s <= word.end_s for word in words)
    assert all(before.end_s <= behind.start_s for before, behind in itertools.pairwise(words))


@given(runs=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=8), cut=st.integers(0, 60))
@settings(deadline=None)
def test_words_of_a_caption_never_overlap(grid: Tokenizer, runs: list[tuple[int, int]], cut: int) -> None:
    """Also where those before a cut are moved to it."""
    edges = list(itertools.accumulate(itertools.chain.from_iterable(runs)))
    tokens = (grid.encode(" ".join(GRID_WORDS)) * len(runs))[: len(runs)]
    heard = Hypothesis(tuple(tokens), 0.0, tuple(edges[::2]), tuple(edges[1::2]), (0.5,) * len(runs))
    captioner = Captioner(CONFIG, grid, BeamSearch(CONFIG, grid))
    state = replace(captioner.init_state(cut), audio_weight=np.ones(200), visible=np.ones(200, np.bool_))
    caption = captioner._caption(heard, state)
    assert caption.start_s >= cut * TICK_S - 1e-9
    assert all(word.start_s <= word.end_s for word in caption.words)
    assert all(before.end_s <= behind.start_s for before, behind in itertools.pairwise(caption.words))


@given(
    words=st.lists(st.sampled_from([*GRID_WORDS, "binary", "it's"]), max_size=24),
    pauses=st.lists(st.sampled_from([0, 1, 3, 15, 40]), min_size=24, max_size=24),
    cuts=st.lists(st.integers(0, 1500), max_size=10),
)
@settings(deadline=None, max_examples=20)
def test_no_word_is_lost_or_doubled(
    grid: Tokenizer, say: Say, words: list[str], pauses: list[int], cuts: list[int]
) -> None:
    """Through ends at pauses and cuts of segments that are too long, the words come out as they went in."""
    pieces = [say(grid, word, gap=2, before=0, after=pause) for word, pause in zip(words, pauses, strict=False)]
    log_probs = np.concatenate([say(grid, "", before=3), *pieces])
    captions = _run(grid, log_probs, cuts)
    finals = _finals(captions)
    assert " ".join(caption.text for caption in finals).split() == words
    assert [caption.segment for caption in finals] == list(range(len(finals)))
    assert all(caption.end_s - caption.start_s <= CONFIG.max_segment_s for caption in finals)


def test_a_speech_without_a_pause_is_cut_between_words(grid: Tokenizer, say: Say) -> None:
    """Each cut leaves its last word to the next segment, and no segment outlives the limit."""
    words = ["bin", "blue", "at", "f", "two", "now"] * 12
    log_probs = say(grid, " ".join(words), gap=4)
    captions = _run(grid, log_probs, range(0, len(log_probs), 8))
    finals = _finals(captions)
    assert len(finals) >= 3
    assert [word.text for caption in finals for word in caption.words] == words
    assert all(word.confidence > 0.5 for caption in finals for word in caption.words)
    assert all(caption.end_s - caption.start_s <= CONFIG.max_segment_s for caption in finals)
    assert all(b.start_s >= a.end_s for a, b in itertools.pairwise(finals))


def test_finals_are_what_one_search_over_all_would_give(grid: Tokenizer, say: Say) -> None:
    texts = ["bin blue at f two now", "lay red", "set green"]
    log_probs = np.concatenate([say(grid, text, after=40, seed=i) for i, text in enumerate(texts)])
    beam = BeamSearch(CONFIG, grid)
    whole = grid.decode(beam.step(log_probs, beam.init_state())[0][0].tokens)
    finals = _finals(_run(grid, log_probs, range(0, len(log_probs), 8)))
    assert [caption.text for caption in finals] == texts
    assert " ".join(caption.text for caption in finals) == whole


def test_words_end_where_they_are_written_and_begin_somewhat_before(grid: Tokenizer, say: Say) -> None:
    log_probs = np.concatenate([say(grid, "bin blue at", gap=4, before=10, after=40), say(grid, "now", before=0)])
    first, second = _finals(_run(grid, log_probs, [8, 16], start_tick=1000))
    written_s = [round((1000 + tick) * 0.04, 2) for tick in (10, 15, 20, 65)]
    ends_s = [round(time_s + 0.04, 2) for time_s in written_s]
    starts_s = [round(time_s - 0.16, 2) for time_s in written_s]
    assert [word.end_s for word in (*first.words, *second.words)] == ends_s
    assert [word.start_s for word in (*first.words, *second.words)] == starts_s
    assert (first.start_s, first.end_s) == (starts_s[0], ends_s[2])
    assert all(0.9 < word.confidence <= 1 for word in first.words)


def test_no_word_begins_before_the_stream_or_before_the_one_before_it_ends(grid: Tokenizer, say: Say) -> None:
    (final,) = _finals(_run(grid, say(grid, "bin blue", gap=1, before=2, after=40), []))
    assert [(w.start_s, w.end_s) for w in final.words] == [(0.0, 0.12), (0.12, 0.2)]


def test_doubtful_words_have_low_confidence(grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin blue").copy()
    blue, now = grid.encode("blue now")
    log_probs[int(log_probs[:, blue].argmax()), [blue, now]] = np.log([0.55, 0.44])
    (final,) = _finals(_run(grid, log_probs, []))
    assert [round(word.confidence, 2) for word in final.words][1] == 0.55


def test_senses_are_averaged_over_the_words(grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin blue", gap=1, before=10, after=30)
    weight, visible = np.zeros(len(log_probs), np.float32), np.zeros(len(log_probs), np.bool_)
    weight[[10, 12]] = 0.25, 0.75
    visible[11:] = True
    x = replace(_input(log_probs), audio_weight=weight, visible=visible)
    (final,) = [caption for caption in _feed(_captioner(grid), x, [7, 11, 12]) if caption.is_final]
    assert final.audio_weight == pytest.approx(0.5)
    assert final.face_visible == pytest.approx(2 / 3)


def test_nothing_is_written_where_neither_sense_is_there(grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin blue now", gap=9, before=10, after=30)
    ticks = {text: int(log_probs[:, grid.encode(text)[0]].argmax()) for text in ("bin", "blue", "now")}
    for senses_there, read in (
        ((slice(ticks["blue"] - 3, None),), "blue now"),  # neither sense came before "blue"
        ((slice(None, ticks["blue"] - AFTERTHOUGHT_TICKS + 1),), "bin blue"),  # the last word may come a little later
        ((slice(None, ticks["blue"] - AFTERTHOUGHT_TICKS),), "bin"),
        ((slice(None, ticks["bin"] + 1), slice(ticks["now"], None)), "bin now"),
        ((), ""),
    ):
        there = np.zeros(len(log_probs), np.bool_)
        for span in senses_there:
            there[span] = True
        for heard, visible in ((there, np.zeros_like(there)), (np.zeros_like(there), there)):
            x = replace(_input(log_probs), heard=heard, visible=visible)
            for cuts in ([], [7, 11, 12, 31], range(len(log_probs))):
                finals = _finals(_feed(_captioner(grid), x, cuts))
                assert " ".join(final.text for final in finals) == read


def test_partials_come_only_with_news(grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin blue", gap=8, before=10, after=4)
    captions = _run(grid, log_probs, range(len(log_probs)))
    assert [(c.text, c.text[: c.stable_chars], c.is_final) for c in captions] == [
        ("bin", "", False),
        ("bin blue", "", False),
        ("bin blue", "bin", False),
        ("bin blue", "bin blue", True),
    ]
    assert [c.revision for c in captions] == [0, 1, 2, 3]


def test_silence_gives_no_captions(grid: Tokenizer, say: Say) -> None:
    assert _run(grid, say(grid, "", before=300), [50, 100]) == ()
    assert _run(grid, say(grid, "", before=0), []) == ()


def test_step_never_changes_the_state_it_is_given(letters: Tokenizer, noise: Say) -> None:
    captioner, x = _captioner(letters), _input(_babble(noise, letters, 1, 3.0))
    state = captioner.init_state()
    _, state = captioner.step(_part(x, 0, 60), state)
    before = pickle.dumps(state)
    first = captioner.step(_part(x, 60, 240), state)
    captioner.flush(state)
    assert pickle.dumps(state) == before
    assert captioner.step(_part(x, 60, 240), pickle.loads(before))[0] == first[0]


def test_the_state_never_grows(letters: Tokenizer, noise: Say) -> None:
    """Noise without a pause: only the longest allowed segment bounds what is kept."""
    captioner = _captioner(letters)
    state = captioner.init_state()
    for part in range(12):
        x = replace(_input(noise(part, 100, letters.vocab_size, 2.0)), start_tick=part * 100)
        _, state = captioner.step(x, state)
        assert len(state.audio_weight) == len(state.visible) <= CONFIG.max_segment_s / 0.04
        assert len(pickle.dumps(state)) < 30_000


def test_hotwords_reach_the_captions(grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin now").copy()
    blue, now = grid.encode("blue now")
    log_probs[int(log_probs[:, now].argmax()), [blue, now]] = np.log([0.1, 0.9])
    beam = BeamSearch(CONFIG, grid, hotwords=[Hotword("blue")])
    captions = _feed(Captioner(CONFIG, grid, beam), _input(log_probs), [])
    assert captions[-1].text == "bin blue"


def test_a_partial_that_comes_to_nothing_is_taken_back(letters: Tokenizer) -> None:
    """A hotword lifts its own beginning until the end shows that it was not said."""
    log_probs = np.full((20, letters.vocab_size), -30.0, np.float32)
    log_probs[:, letters.blank_id] = 0.0
    for tick, token in enumerate(letters.encode("y"), start=5):
        log_probs[tick, [letters.blank_id, token]] = np.log([0.7, 0.3])
    captioner = Captioner(CONFIG, letters, BeamSearch(CONFIG, letters, hotwords=[Hotword("york", boost=8.0)]))
    captions = _feed(captioner, _input(log_probs), [8])
    assert [(c.text, c.is_final, c.segment, c.revision) for c in captions] == [("y", False, 0, 0), ("", False, 0, 1)]


def test_what_follows_words_that_came_to_nothing_is_news(letters: Tokenizer) -> None:
    """However often one looks, and through a rest: revisions of a segment count up, and times are the new ones."""
    nothing = np.full((60, letters.vocab_size), -30.0, np.float32)
    nothing[:, letters.blank_id] = 0.0
    log_probs = nothing.copy()
    for tick in (2, 40):
        for later, token in enumerate(letters.encode("y")):
            log_probs[tick + later, [letters.blank_id, token]] = np.log([0.7, 0.3])
    captioner = Captioner(CONFIG, letters, BeamSearch(CONFIG, letters, hotwords=[Hotword("york", boost=8.0)]))
    often, seldom = (_feed(captioner, _input(log_probs), cuts) for cuts in ([6, 30, 45], [6, 45]))
    assert [(c.text, c.is_final) for c in often] == [("y", False), ("", False)] * 2
    assert [(c.text, c.is_final) for c in seldom] == [("y", False), ("y", False), ("", False)]
    assert often[2].start_s == seldom[1].start_s > seldom[0].start_s
    state = captioner.init_state()
    first, state = captioner.step(_part(_input(log_probs), 0, 6), state)
    last, state = captioner.rest(state)
    state = captioner.wake(1000, state)
    later, state = captioner.step(replace(_part(_input(log_probs), 36, 45), start_tick=1000), state)
    captions = (*first, *last, *later, *captioner.flush(state))
    assert [(c.text, c.segment, c.revision) for c in captions] == [("y", 0, 0), ("", 0, 1), ("y", 0, 2), ("", 0, 3)]


def test_ticks_out_of_order_and_ragged_inputs_are_refused(letters: Tokenizer, noise: Say) -> None:
    captioner, x = _captioner(letters), _input(noise(0, 8, letters.vocab_size))
    with pytest.raises(InputError, match="stands at tick 0"):
        captioner.step(replace(x, start_tick=3), captioner.init_state())
    with pytest.raises(InputError, match="visible of 7 ticks beside 8 of log-prob"):
        captioner.step(replace(x, visible=x.visible[:-1]), captioner.init_state())
    with pytest.raises(InputError, match="NaN"):
        captioner.step(replace(x, log_probs=x.log_probs * np.nan), captioner.init_state())


def _babble(noise: Say, tokenizer: Tokenizer, seed: int, spread: float) -> FloatArray:
    """Random letters with many word starts and blanks, some of them long pauses: 240 ticks."""
    logits = noise(seed, 240, tokenizer.vocab_size, spread).copy()
    rng = np.random.default_rng(seed)
    logits[:, 0] += spread * 2
    logits[:, tokenizer.encode("a")[0]] += spread
    for start in rng.integers(0, 240, size=3):
        logits[start : start + rng.integers(5, 30), 0] += 12.0
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def _captioner(tokenizer: Tokenizer) -> Captioner:
    return Captioner(CONFIG, tokenizer, BeamSearch(CONFIG, tokenizer))


def _input(log_probs: FloatArray, start_tick: int = 0) -> CaptionerInput:
    size = len(log_probs)
    there = np.ones(size, np.bool_)
    unknown = [None] * size
    return CaptionerInput(log_probs, np.full(size, 0.5, np.float32), there, there, start_tick, unknown, unknown)


def _part(x: CaptionerInput, start: int, end: int) -> CaptionerInput:
    weight, heard, visible = x.audio_weight[start:end], x.heard[start:end], x.visible[start:end]
    known = x.loudness_db[start:end], x.mouth_opening[start:end]
    return CaptionerInput(x.log_probs[start:end], weight, heard, visible, x.start_tick + start, *known)


def _run(tokenizer: Tokenizer, log_probs: FloatArray, cuts: Iterable[int], start_tick: int = 0) -> tuple[Caption, ...]:
    return _feed(_captioner(tokenizer), _input(log_probs, start_tick), cuts)


def _feed(captioner: Captioner, x: CaptionerInput, cuts: Iterable[int]) -> tuple[Caption, ...]:
    state, captions = captioner.init_state(x.start_tick), ()
    edges = [0, *sorted(min(cut, len(x.log_probs)) for cut in cuts), len(x.log_probs)]
    for start, end in itertools.pairwise(edges):
        new, state = captioner.step(_part(x, start, end), state)
        captions += new
    return captions + captioner.flush(state)


def _finals(captions: Iterable[Caption]) -> list[Caption]:
    """How often a caption was revised before depends on how often we looked; nothing else may."""
    return [replace(caption, revision=0) for caption in captions if caption.is_final]
