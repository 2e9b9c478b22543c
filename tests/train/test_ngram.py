"""Language models learned from text: proper distributions, whatever the text and whatever is pruned."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.decode import NgramTable, read_arpa, write_arpa
from avsr.decode.lm import LmContext
from avsr.decode.tokenizer import normalise_text
from avsr.errors import ConfigError, InputError
from avsr.train.ngram import NgramConfig, gzip_arpa, measure_fit, read_sentences, train_ngrams

WORDS = ("bin", "blue", "at", "f")
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=12)
configs = st.builds(
    NgramConfig,
    order=st.integers(1, 5),
    min_counts=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(lambda counts: tuple(sorted(counts))),
    vocab_size=st.none() | st.integers(1, 4),
)


def contexts(ngrams: NgramTable) -> set[LmContext]:
    """Every context that the model can be in, reached by words listed or not."""
    found, new = set(), {ngrams.start()}
    while new:
        found |= new
        new = {ngrams.log_prob(word, context)[1] for context in new for word in (*WORDS, "zebra")} - found
    return found


@settings(max_examples=25, deadline=None)
@given(texts, configs)
def test_after_every_context_the_probabilities_sum_to_one(lines: list[str], config: NgramConfig) -> None:
    ngrams = train_ngrams(lines, config)
    listed = [name for name, _, _ in ngrams.ngrams(1) if name != "<s>"]
    assert "<unk>" in listed and "</s>" in listed
    for context in contexts(ngrams):
        total = sum(math.exp(ngrams.log_prob(word, context)[0]) for word in listed)
        assert total == pytest.approx(1, abs=2e-4), context  # 5 decimals of log10


@settings(max_examples=25, deadline=None)
@given(texts, configs)
def test_what_is_written_reads_back_with_the_same_scores(lines: list[str], config: NgramConfig) -> None:
    ngrams = train_ngrams(lines, config)
    again = read_arpa(write_arpa(ngrams))
    assert again.num_ngrams == ngrams.num_ngrams
    assert write_arpa(again) == write_arpa(ngrams)
    for context in contexts(ngrams):
        for word in (*WORDS, "zebra", "</s>"):
            assert again.log_prob(word, context) == ngrams.log_prob(word, context)


def test_a_bigram_model_is_as_computed_by_hand() -> None:
    """Continuation counts: a follows <s> and b; b follows a alone; </s> follows a and b. Fallback discounts."""
    ngrams = train_ngrams(["a b", "a b", "a", "b a"], NgramConfig(order=2))
    # unigrams: a {<s>, b}, b {a, <s>}, </s> {b, a}: 2 each, discount 1.0 each of 6 in all, uniform over 4 with <unk>
    word = (2 - 1.0) / 6 + (3.0 / 6) / 4
    # after a (3 times): "a b" 2, "a </s>" 2; after <s>: "a" 3, "b" 1
    assert math.exp(ngrams.log_prob("zebra", ())[0]) == pytest.approx(0.5 / 4, abs=1e-5)
    after_start = ngrams.start()
    probability, after_a = ngrams.log_prob("a", after_start)
    assert math.exp(probability) == pytest.approx((3 - 1.5) / 4 + (1.5 + 0.5) / 4 * word, abs=1e-5)
    assert math.exp(ngrams.log_prob("b", after_a)[0]) == pytest.approx((2 - 1.0) / 4 + (1.0 + 1.0) / 4 * word, abs=1e-5)
    assert math.exp(ngrams.log_prob("a", after_a)[0]) == pytest.approx((1.0 + 1.0) / 4 * word, abs=1e-5)


def test_longer_ngrams_are_as_the_formula_says_it() -> None:
    """Beside Kneser and Ney's sums written out plainly, with what follows counted anew for each order."""
    lines = ["a b c a", "a b b", "c a b", "b", "a b c c a", "c c"]
    marked = [("<s>", *line.split(), "</s>") for line in lines]
    seen = [Counter(s[i : i + n] for s in marked for i in range(len(s) - n + 1)) for n in (1, 2, 3)]
    counts: list[dict[tuple[str, ...], int]] = [{}, {}, dict(seen[2])]
    for n in (1, 2):
        for gram, count in seen[n - 1].items():
            follows = sum(longer[1:] == gram for longer in seen[n])
            counts[n - 1][gram] = count if gram[0] == "<s>" else follows
    del counts[0]["<s>",]
    uniform = 1 / (len(counts[0]) + 1)  # with <unk>

    def discount(order: int, count: int) -> float:
        n1, n2, n3, n4 = (sum(c == i for c in counts[order - 1].values()) for i in (1, 2, 3, 4))
        if not (n1 and n2 and n3 and n4):
            return (0.0, 0.5, 1.0, 1.5)[min(count, 3)]
        y = n1 / (n1 + 2 * n2)
        return (0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)[min(count, 3)]

    def probability(word: str, history: tuple[str, ...]) -> float:
        order = len(history) + 1
        known = {gram[-1]: count for gram, count in counts[order - 1].items() if gram[:-1] == history}
        shorter = probability(word, history[1:]) if history else uniform
        if not known:
            return shorter
        taken = sum(discount(order, count) for count in known.values())
        own = known.get(word, 0)
        return (own - discount(order, own) + taken * shorter) / sum(known.values())

    ngrams = train_ngrams(lines, NgramConfig(order=3))
    for first, second in product(("a", "b", "c"), repeat=2):
        context = ngrams.log_prob(second, ngrams.log_prob(first, ngrams.start())[1])[1]
        for word in ("a", "b", "c", "</s>"):
            expected = probability(word, (first, second))
            assert math.exp(ngrams.log_prob(word, context)[0]) == pytest.approx(expected, rel=1e-4)


def test_discounts_are_those_of_chen_and_goodman() -> None:
    """Single words seen 1, 2, 3, 4 times in numbers of 8, 4, 2 and 1: y = 1/2, and D = 1/2, 5/4, 2 by the formula."""
    lines, number = [], 0
    for count, num_words in ((1, 8), (2, 4), (3, 2), (4, 1)):
        for _ in range(num_words):
            lines += [f"w{number}"] * count
            number += 1
    ngrams = train_ngrams(lines, NgramConfig(order=1))
    total = 2 * len(lines)  # each line ends once
    taken = 8 * 0.5 + 4 * 1.25 + (2 + 1 + 1) * 2.0  # </s> is seen often
    uniform = taken / total / (15 + 2)
    for word, count, discount in (("w0", 1, 0.5), ("w8", 2, 1.25), ("w12", 3, 2.0), ("w14", 4, 2.0)):
        expected = (count - discount) / total + uniform
        assert math.exp(ngrams.log_prob(word, ())[0]) == pytest.approx(expected, rel=1e-4)


def test_a_closed_grammar_in_which_nothing_is_rare_keeps_its_shape() -> None:
    lines = [" ".join(words) for words in product(("bin", "lay"), ("blue", "red"), ("at", "by"), ("one", "two"))] * 30
    ngrams = train_ngrams(lines, NgramConfig(order=3))
    _, after = ngrams.log_prob("bin", ngrams.start())
    assert math.exp(ngrams.log_prob("blue", after)[0]) == pytest.approx(0.5, abs=0.01)
    assert math.exp(ngrams.log_prob("two", after)[0]) < 0.01
    assert 0 < math.exp(ngrams.log_prob("zebra", after)[0]) < 0.01


def test_longer_contexts_foretell_other_text_better() -> None:
    sentences = [f"{a} {b} {c} now" for a, b, c in product(("bin", "lay", "set"), ("blue", "red"), ("at", "by", "in"))]
    train, held_out = sentences[::2], sentences[1::2]
    perplexity = [measure_fit(train_ngrams(train, NgramConfig(order=n)), held_out).perplexity for n in (1, 2)]
    assert perplexity[1] < 0.6 * perplexity[0]


def test_unknown_words_are_counted_and_share_what_rare_words_had() -> None:
    lines = ["red red red red blue blue blue at at f"] * 3
    ngrams = train_ngrams(lines, NgramConfig(order=1, vocab_size=2))
    assert [name for name, _, _ in ngrams.ngrams(1)] == ["<unk>", "<s>", "</s>", "red", "blue"]
    assert "at" not in ngrams and "red" in ngrams
    assert math.exp(ngrams.log_prob("zebra", ())[0]) == pytest.approx(9 / 33, abs=0.06)
    fit = measure_fit(ngrams, ["red at zebra", ""])
    assert (fit.num_words, fit.num_unknown, fit.num_sentences, fit.unknown_share) == (3, 2, 1, 2 / 3)
    known = ngrams.log_prob("red", ngrams.start())[0] + ngrams.log_prob("</s>", ())[0]
    assert fit.perplexity == pytest.approx(math.exp(-known / 2))


@given(texts, st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_pruning_leaves_exactly_what_occurs_often_enough(lines: list[str], min_count: int) -> None:
    ngrams = train_ngrams(lines, NgramConfig(order=3, min_counts=(min_count,)))
    marked = [["<s>", *line.split(), "</s>"] for line in lines]
    for order in (2, 3):
        seen = Counter(" ".join(words[i : i + order]) for words in marked for i in range(len(words) - order + 1))
        assert {name for name, _, _ in ngrams.ngrams(order)} == {n for n, count in seen.items() if count >= min_count}


def test_text_is_normalised_as_transcripts_are() -> None:
    given, normal = ["Bin BLUE, at F!", "don’t", "  "], ["bin blue at f", "don't"]
    assert write_arpa(train_ngrams(given)) == write_arpa(train_ngrams(normal))


def test_a_sentence_ends_with_its_line_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("bin\u2028blue\r\nlay red".encode())
    assert [normalise_text(line) for line in read_sentences(tmp_path / "a.txt")] == ["bin blue", "lay red"]


def test_the_same_text_gives_the_same_bytes() -> None:
    data, again = (gzip_arpa(train_ngrams(["bin blue", "bin red"])) for _ in range(2))
    assert data == again
    assert gzip.decompress(data).startswith(b"\\data\\\nngram 1=6\n")


def test_progress_is_told_for_every_order() -> None:
    steps: list[str] = []
    train_ngrams(["bin blue"], NgramConfig(order=2), on_progress=steps.append)
    assert steps == ["counted 5 1-grams", "counted 3 2-grams"]


def test_no_text_is_an_error() -> None:
    with pytest.raises(InputError, match="every line is empty"):
        train_ngrams(["", " ... "])
    with pytest.raises(InputError, match="every line is empty"):
        measure_fit(train_ngrams(["bin"]), [])


def test_counts_that_fall_are_refused() -> None:
    from avsr.config import parse_config

    with pytest.raises(ConfigError, match="never fall"):
        parse_config("min_counts: [2, 1]", NgramConfig, source="recipe")
