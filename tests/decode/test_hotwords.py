from __future__ import annotations

import numpy as np
import pytest
from decode_names import GRID_WORDS, Say
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.config import DecodeConfig
from avsr.decode import BeamSearch, Hotword, Tokenizer
from avsr.decode.hotwords import ROOT, HotwordMatcher
from avsr.errors import ConfigError, TextError

FEW_WORDS = st.lists(st.sampled_from(["new", "york", "yorkshire", "york's", "ne", "w", "a"]), max_size=6)


def test_a_hotword_wins_a_close_call(grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin now please").copy()
    blue, now = grid.encode("blue now")
    tick = int(log_probs[:, now].argmax())
    log_probs[tick, [blue, now]] = np.log([0.1, 0.9])
    assert _best(grid, log_probs) == "bin now please"
    assert _best(grid, log_probs, Hotword("blue", boost=4.0)) == "bin blue please"
    assert _best(grid, log_probs, Hotword("Blue, please!", boost=4.0)) == "bin blue please"
    assert _best(grid, log_probs, Hotword("blue soon", boost=4.0)) == "bin now please"


@given(words=FEW_WORDS, phrases=st.lists(st.tuples(FEW_WORDS, st.sampled_from([1.0, 2.5])), min_size=1, max_size=4))
@settings(deadline=None, max_examples=80)
def test_the_bonus_of_a_text_is_that_of_its_whole_hotwords(
    letters: Tokenizer, words: list[str], phrases: list[tuple[list[str], float]]
) -> None:
    """Whatever partial matches began and broke on the way, in letters."""
    boosts = {" ".join(phrase): boost for phrase, boost in phrases if phrase}
    hotwords = [Hotword(phrase, boost) for phrase, boost in boosts.items()]
    matcher, turned = HotwordMatcher(letters, hotwords), HotwordMatcher(letters, hotwords[::-1])
    tokens = letters.encode(" ".join(words))
    assert _bonus(matcher, tokens) == pytest.approx(_expected(boosts, words))
    assert _growth(matcher, tokens) == pytest.approx(_growth(turned, tokens))  # in whichever order they are given


@given(words=st.lists(st.sampled_from([*GRID_WORDS, "binary", "blew"]), max_size=6))
@settings(deadline=None, max_examples=40)
def test_pieces_and_letters_earn_the_same_bonus(grid: Tokenizer, words: list[str]) -> None:
    boosts = {"bin": 1.0, "bin blue": 2.0, "blew": 3.0, "at f two": 4.0}
    matcher = HotwordMatcher(grid, [Hotword(phrase, boost) for phrase, boost in boosts.items()])
    spelled = [grid.pieces.index(letter) for letter in "".join("▁" + word for word in words)]
    assert _bonus(matcher, grid.encode(" ".join(words))) == pytest.approx(_expected(boosts, words))
    assert _bonus(matcher, spelled) == pytest.approx(_expected(boosts, words))


def test_the_bonus_grows_with_the_match_and_goes_back_when_it_breaks(letters: Tokenizer) -> None:
    matcher = HotwordMatcher(letters, [Hotword("york", boost=5.0)])
    assert _growth(matcher, letters.encode("yorks")) == pytest.approx([1.0, 1.0, 1.0, 1.0, 1.0, -5.0, 0.0])


def test_hotwords_that_cannot_be_are_refused(letters: Tokenizer) -> None:
    with pytest.raises(TextError, match="no letters"):
        HotwordMatcher(letters, [Hotword("...")])
    with pytest.raises(TextError, match="no piece for 7"):
        HotwordMatcher(letters, [Hotword("area 7")])
    assert Hotword("york", boost=0).boost == 0
    for boost in (-1.0, float("nan"), float("inf"), "4"):
        with pytest.raises(ConfigError, match="boost"):
            Hotword("york", boost)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="hotword 5: must be a text"):
        Hotword(5)  # type: ignore[arg-type]


def _bonus(matcher: HotwordMatcher, tokens: list[int]) -> float:
    return sum(_growth(matcher, tokens))


def _growth(matcher: HotwordMatcher, tokens: list[int]) -> list[float]:
    """What each token adds, and then the end."""
    node, growth = ROOT, []
    for token in tokens:
        gains, nodes = matcher.moves(node)
        growth.append(float(gains[token]))
        node = int(nodes[token])
    return [*growth, matcher.finish(node)]


def _expected(boosts: dict[str, float], words: list[str]) -> float:
    return sum(
        boost
        for phrase, boost in boosts.items()
        for start in range(len(words))
        if words[start : start + len(phrase.split())] == phrase.split()
    )


def _best(tokenizer: Tokenizer, log_probs: np.ndarray, *hotwords: Hotword) -> str:
    beam = BeamSearch(DecodeConfig(), tokenizer, hotwords=hotwords)
    return tokenizer.decode(beam.flush(beam.step(log_probs, beam.init_state())[1])[0].tokens)
