from __future__ import annotations

import gzip
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from decode_names import Say
from hypothesis import given
from hypothesis import strategies as st

from avsr.config import DecodeConfig
from avsr.decode import BeamSearch, Hotword, Tokenizer, WordLm, read_arpa
from avsr.errors import ConfigError, InputError

ARPA = """\
Made by hand.

\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-2.0\t<unk>\t-0.1
-0.7\tbin\t-0.3
-0.8\tblue\t-0.2
-0.9\tblew

\\2-grams:
-0.2\t<s> bin\t-0.05
-0.1\tbin blue\t-0.4
-0.6\tblue </s>
-1.5\t<s> blue\t-0.15

\\3-grams:
-0.01\t<s> bin blue

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.arpa"
    path.write_text(ARPA)
    return path


@pytest.mark.parametrize(
    ("words", "log10_prob"),
    [
        ("bin", -0.2),
        ("bin blue", -0.2 - 0.01),
        ("bin blue </s>", -0.2 - 0.01 + (-0.4 - 0.6)),  # trigram absent: backoff of "bin blue", then "blue </s>"
        ("bin bin", -0.2 + (-0.05 - 0.3 - 0.7)),  # backoffs of "<s> bin" and "bin", then the word alone
        ("blew", -0.5 - 0.9),
        ("blew blue", -0.5 - 0.9 - 0.8),  # "blew" has no backoff: nothing is lost
        ("zebra bin", (-0.5 - 2.0) + (-0.1 - 0.7)),  # through <unk>
        ("blue blue", -1.5 + (-0.15 - 0.2 - 0.8)),
    ],
)
def test_probabilities_are_those_computed_by_hand(arpa: Path, words: str, log10_prob: float) -> None:
    ngrams = read_arpa(arpa)
    context, total = ngrams.start(), 0.0
    for word in words.split():
        log_prob, context = ngrams.log_prob(word, context)
        total += log_prob
        assert len(context) < ngrams.order
    assert total == pytest.approx(log10_prob * math.log(10), abs=1e-5)


def test_an_unknown_word_without_unk_is_rare_but_possible(tmp_path: Path) -> None:
    path = tmp_path / "closed.arpa"
    path.write_text("\\data\\\nngram 1=2\n\\1-grams:\n-0.3\tbin\n-0.3\tblue\n\\end\\\n")
    ngrams = read_arpa(path)
    assert ngrams.start() == ()
    assert ngrams.log_prob("zebra", ()) == (pytest.approx(-7 * math.log(10)), ())


def test_a_word_that_is_only_spelled_never_beats_a_rare_one(tmp_path: Path) -> None:
    """``<unk>`` may be likely, since it stands for every unknown word; one of them is not."""
    path = tmp_path / "open.arpa"
    path.write_text("\\data\\\nngram 1=3\n\\1-grams:\n-0.3\t<unk>\n-0.3\tbin\n-6\trare\n\\end\\\n")
    lm = WordLm(read_arpa(path), weight=1.0)
    assert lm.score("zebra", ())[0] == pytest.approx(-7 * math.log(10))
    assert lm.score("zebra", ())[0] < lm.score("rare", ())[0]


def test_an_unfinished_word_is_unknown_once_no_listed_word_begins_so(arpa: Path) -> None:
    lm = WordLm(read_arpa(arpa), weight=0.5, word_bonus=3.0)
    assert lm.begun("") == lm.begun("b") == lm.begun("blu") == lm.begun("blue") == 0.0
    assert lm.begun("blues") == lm.begun("z") == pytest.approx(0.5 * -7 * math.log(10))
    assert lm.begun("bluebinred") == pytest.approx(0.5 * -10 * math.log(10))


@given(letters=st.text("blue inz", max_size=20), more=st.text("blue inz", max_size=3))
def test_more_letters_never_make_an_unfinished_word_likelier(letters: str, more: str) -> None:
    lm = WordLm(read_arpa(ARPA.encode()), weight=1.0)
    assert lm.begun(letters + more) <= lm.begun(letters) <= 0.0


@pytest.mark.parametrize("beam_size", [4, 200])
def test_words_are_told_apart_where_word_marks_are_faint(letters: Tokenizer, say: Say, beam_size: int) -> None:
    text = "bin blue blew blue bin blew"
    log_probs = say(letters, text, doubt=0.3)
    marks = log_probs.argmax(axis=1) == letters.encode("bin")[0]
    assert marks.sum() == len(text.split())
    log_probs[marks, letters.blank_id] = log_probs[marks].max(axis=1) + 3.0
    lm = WordLm(read_arpa(ARPA.encode()), weight=1.0)
    for used, words in ((lm, text), (None, text.replace(" ", ""))):
        beam = BeamSearch(DecodeConfig(beam_size=beam_size), letters, used)
        best = beam.flush(beam.step(log_probs, beam.init_state())[1])[0]
        assert letters.decode(best.tokens) == words


def test_another_weight_leaves_the_model_as_it_was(arpa: Path) -> None:
    lm = WordLm(read_arpa(arpa), 0.5, 0.25)
    heavy = lm.weighted(1.0)
    assert (heavy.weight, heavy.word_bonus, lm.weight) == (1.0, 0.25, 0.5)
    assert heavy.score("bin", ())[0] - 0.25 == pytest.approx(2 * (lm.score("bin", ())[0] - 0.25))
    unaided = lm.weighted(word_bonus=0.0)
    assert unaided.score("bin", ())[0] == pytest.approx(lm.score("bin", ())[0] - 0.25)
    assert unaided.end(()) == lm.end(())
    with pytest.raises(ConfigError):
        lm.weighted(-1.0)


def test_more_text_than_allowed_is_refused_before_it_is_kept(arpa: Path) -> None:
    with pytest.raises(InputError, match=r"the language model, line 3: .*larger than is allowed"):
        read_arpa(gzip.compress(arpa.read_bytes()), max_bytes=40)


def test_bytes_read_like_the_file(arpa: Path) -> None:
    assert read_arpa(arpa.read_bytes()).num_ngrams == read_arpa(arpa).num_ngrams == (6, 4, 1)


def test_an_order_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "pruned.arpa"
    path.write_text("\\data\\\nngram 1=1\nngram 2=0\n\\1-grams:\n-0.3\tbin\n\\2-grams:\n\\end\\\n")
    ngrams = read_arpa(path)
    assert ngrams.log_prob("bin", ngrams.log_prob("bin", ())[1])[0] == pytest.approx(-0.3 * math.log(10))


def test_a_byte_order_mark_is_no_part_of_the_text(arpa: Path) -> None:
    text = arpa.read_bytes().lstrip()
    assert read_arpa(b"\xef\xbb\xbf" + text[text.index(b"\\data") :]).num_ngrams == (6, 4, 1)


def test_a_model_in_capitals_scores_as_in_small_letters(arpa: Path) -> None:
    small = read_arpa(arpa)
    capitals = read_arpa("\n".join(line.upper() if "\t" in line else line for line in ARPA.splitlines()).encode())
    for word in ("bin", "blue", "zebra"):
        assert capitals.log_prob(word, capitals.start()) == small.log_prob(word, small.start())


def test_a_word_in_small_letters_counts_before_its_capitals(tmp_path: Path) -> None:
    path = tmp_path / "cased.arpa"
    path.write_text("\\data\\\nngram 1=4\n\\1-grams:\n-0.9\tMay\n-0.3\tmay\n-0.5\tKent\n-0.7\tKENT\n\\end\\\n")
    ngrams = read_arpa(path)
    scores = [ngrams.log_prob(word, ())[0] / math.log(10) for word in ("may", "May", "kent", "KENT")]
    assert scores == pytest.approx([-0.3, -0.9, -0.5, -0.7])


@pytest.mark.parametrize(
    ("words", "example"), [(["<s>", "</s>"], "<s>"), (["<s>", "\u2581bin", "\u2581blue"], "\u2581bin")]
)
def test_a_model_of_no_word_that_can_be_heard_is_refused(words: list[str], example: str) -> None:
    lines = ["\\data\\", f"ngram 1={len(words)}", "\\1-grams:", *(f"-0.5\t{word}" for word in words), "\\end\\\n"]
    with pytest.raises(InputError, match=rf"hardly any of its words .*'{example}' is not; train another"):
        read_arpa("\n".join(lines).encode())


def test_gzip_reads_like_plain(arpa: Path, tmp_path: Path) -> None:
    packed = tmp_path / "tiny.arpa.gz"
    packed.write_bytes(gzip.compress(arpa.read_bytes()))
    a, b = read_arpa(arpa), read_arpa(packed)
    assert a.log_prob("blue", a.start()) == b.log_prob("blue", b.start())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"line 25: the file ends where \\data\\"),
        ("ngram 2=4", "ngram 3=4", "line 5: 'ngram 3=4'"),
        ("ngram 2=4", "ngram 2=5", "line 22: .* is no 2-gram"),
        ("ngram 2=4", "ngram 2=3", "line 20: .* 3 2-grams"),
        ("ngram 1=6", "ngram 1=0", "no 1-grams"),
        ("ngram 1=6", "ngram 1=99999999999", "prune the model"),
        ("ngram 1=6", "ngram 1=" + 5000 * "9", "line 4: 'ngram 1=9"),
        ("-0.7\tbin", "-1e300\tbin", "line 12: .* at most 0"),
        ("-0.7\tbin", "nan\tbin", "line 12: .* at most 0"),
        ("-0.7\tbin", "0.7\tbin", "line 12: .* at most 0"),
        ("-0.7\tbin", "x\tbin", "line 12: .*could not convert"),
        ("-0.1\tbin blue", "-0.1\tbin green", "line 18: 'green' is not among the 1-grams"),
        ("-0.01\t<s> bin blue", "-0.01\tblew bin blue", "line 23: the first 2 words"),
        ("-0.01\t<s> bin blue", "-0.01\t<s> bin blue\t-0.1", "line 23: .* is no 3-gram"),
        ("-0.9\tblew", "-0.9\tblue", "line 14: this 1-gram is listed twice"),
        ("-1.5\t<s> blue", "-1.5\t<s> bin", "line 20: this 2-gram is listed twice"),
        ("\\end\\", "", "cut short"),
        ("\n\\3-grams:\n-0.01\t<s> bin blue\n\n\\end\\\n", "", "cut short"),
        ("blew", "bl\udce9w", "not UTF-8"),
        ("Made by hand.", "x" * 70_000, "line 1: longer than"),
    ],
)
def test_damage_is_refused_with_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "bad.arpa"
    assert old in ARPA
    path.write_bytes(ARPA.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        read_arpa(path)


def test_a_broken_gzip_and_a_missing_file_are_refused(arpa: Path, tmp_path: Path) -> None:
    packed = tmp_path / "cut.arpa.gz"
    packed.write_bytes(gzip.compress(arpa.read_bytes())[:-60])
    for path in (packed, tmp_path / "absent.arpa", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_arpa(path)


def test_the_search_adds_each_word_once_and_the_sentence_end_at_flush(arpa: Path, grid: Tokenizer, say: Say) -> None:
    """`bl e w` is spelled letter by letter: the word counts when the next one starts, or at the end."""
    ngrams, log_probs = read_arpa(arpa), say(grid, "bin blue blew")
    config = DecodeConfig(beam_size=16)
    plain = BeamSearch(config, grid)
    acoustic = plain.flush(plain.step(log_probs, plain.init_state())[1])[0]
    beam = BeamSearch(config, grid, lm=WordLm(ngrams, weight=0.3, word_bonus=0.25))
    hypotheses, state = beam.step(log_probs, beam.init_state())
    final = beam.flush(state)[0]
    assert hypotheses[0].tokens == final.tokens == acoustic.tokens
    complete = 0.3 * (-0.2 - 0.01) * math.log(10) + 2 * 0.25
    assert hypotheses[0].score - acoustic.score == pytest.approx(complete, abs=1e-5)
    rest = 0.3 * (-0.4 - 0.2 - 0.9 - 1.0) * math.log(10) + 0.25
    assert final.score - hypotheses[0].score == pytest.approx(rest, abs=1e-5)


def test_hypotheses_are_best_first_with_all_that_is_added(arpa: Path, grid: Tokenizer, noise: Say) -> None:
    """The search keeps the best ones, so it must know what a word adds before it takes the token that ends it."""
    lm = WordLm(read_arpa(arpa), weight=1.0, word_bonus=1.0)
    beam = BeamSearch(DecodeConfig(beam_size=16), grid, lm=lm, hotwords=[Hotword("bin blue")])
    state = beam.init_state()
    for frame in noise(3, 30, grid.vocab_size, spread=3.0):
        hypotheses, state = beam.step(frame[None], state)
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == pytest.approx(sorted(scores, reverse=True))


def test_a_language_model_turns_a_close_call(arpa: Path, grid: Tokenizer, say: Say) -> None:
    """The words blue and now sound alike here; the model knows only one of them."""
    log_probs = say(grid, "bin now").copy()
    blue, now = grid.encode("blue now")
    tick = int(log_probs[:, now].argmax())
    log_probs[tick, [blue, now]] = np.log([0.45, 0.55])
    assert _best(BeamSearch(DecodeConfig(), grid), log_probs, grid) == "bin now"
    assert _best(BeamSearch(DecodeConfig(), grid, lm=WordLm(read_arpa(arpa))), log_probs, grid) == "bin blue"


def test_silence_is_no_unlikely_sentence(arpa: Path, grid: Tokenizer, say: Say) -> None:
    log_probs = say(grid, "bin")[:2]  # silence, and a doubt
    for lm in (None, WordLm(read_arpa(arpa), weight=5.0)):
        beam = BeamSearch(DecodeConfig(), grid, lm=lm)
        final = beam.flush(beam.step(log_probs, beam.init_state())[1])
        assert final[0].tokens == ()
        assert final[0].score == pytest.approx(float(log_probs[:, 0].sum()), abs=1e-6)


@pytest.mark.parametrize(("weight", "bonus"), [(-1.0, 0.0), (math.nan, 0.0), (1.0, math.inf)])
def test_senseless_weights_are_refused(arpa: Path, weight: float, bonus: float) -> None:
    with pytest.raises(ConfigError, match="must be finite"):
        WordLm(read_arpa(arpa), weight, bonus)


def test_the_name_of_a_file_is_no_model(arpa: Path) -> None:
    with pytest.raises(ConfigError, match=r"not str; .*avsr\.read_arpa"):
        WordLm(str(arpa))  # type: ignore[arg-type]


def _best(beam: BeamSearch, log_probs: np.ndarray, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(beam.flush(beam.step(log_probs, beam.init_state())[1])[0].tokens)


@pytest.mark.parametrize("seed", range(4))
def test_every_hypothesis_scores_as_its_text(tmp_path: Path, letters: Tokenizer, noise: Say, seed: int) -> None:
    """Sound alone + language model + hotword, whatever path the search took to the text."""
    path = tmp_path / "ab.arpa"
    path.write_text(
        "\\data\\\nngram 1=5\nngram 2=2\n\\1-grams:\n-9\t<s>\t-0.3\n-1\t</s>\n-0.5\ta\t-0.2\n-0.7\tb\n-2\tab\n"
        "\\2-grams:\n-0.1\t<s> ab\n-0.2\ta b\n\\end\\\n"
    )
    ngrams = read_arpa(path)
    log_probs = noise(seed, 6, letters.vocab_size, spread=2.0)
    few = [letters.blank_id, *letters.encode("ab")]
    log_probs[:, [i for i in range(letters.vocab_size) if i not in few]] = -np.inf
    config = DecodeConfig(beam_size=5000, top_k=100)
    plain = BeamSearch(config, letters)
    sound = {h.tokens: h.score for h in plain.flush(plain.step(log_probs, plain.init_state())[1])}
    both = BeamSearch(config, letters, WordLm(ngrams, weight=0.7, word_bonus=0.2), [Hotword("b a", boost=3.0)])
    hypotheses = both.flush(both.step(log_probs, both.init_state())[1])
    assert {h.tokens for h in hypotheses} == set(sound)
    for hypothesis in hypotheses:
        words = letters.decode(hypothesis.tokens).split()
        context, expected = ngrams.start(), 0.2 * len(words)
        for word in [*words, "</s>"]:
            log_prob, context = ngrams.log_prob(word, context)
            expected += 0.7 * log_prob
        # A piece sequence may lack the first word's mark, and a hotword needs it.
        if hypothesis.tokens[:1] == (few[1],) and (few[1], few[1]) not in pairwise(hypothesis.tokens):
            expected += 3.0 * sum(pair == ("b", "a") for pair in pairwise(words))
            assert hypothesis.score - sound[hypothesis.tokens] == pytest.approx(expected, abs=1e-5)
