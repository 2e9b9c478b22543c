"""The language model of a bundle: used by default, switched off or exchanged by one word, and no law broken by it."""

from __future__ import annotations

import shutil
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from stand_ins import LINES, Heard, listen, packets_of, sound, tiny_recognizer

import avsr
from avsr.bundle import LM_FILE, MAX_BYTES, MAX_LM_TEXT_BYTES, load_bundle, save_bundle
from avsr.config import BundleConfig
from avsr.decode import WordLm, write_arpa
from avsr.errors import BundleError, ConfigError, InputError
from avsr.recognizer import Recognizer, load_lm
from avsr.train.ngram import gzip_arpa, train_ngrams


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def path(plain: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a language model that counts a lot."""
    path = tmp_path_factory.mktemp("models") / "with_lm"
    rebundle(plain, path, gzip_arpa(train_ngrams(LINES)))
    return path


def rebundle(recognizer: Recognizer, path: Path, lm_bytes: bytes) -> None:
    config = recognizer.bundle.config
    weights = {"lm_weight": 3.0, "word_bonus": -1.0}
    config = BundleConfig.model_validate(
        {**dict(config), "decode": config.decode.model_copy(update=weights)}, strict=False
    )
    bundle = recognizer.bundle
    save_bundle(path, config, bundle.state_dict(), bundle.tokenizer_bytes, bundle.card, lm_bytes)


def hear(recognizer: Recognizer, lm: WordLm | str | None = None, packet_samples: int = 640) -> Heard:
    packets = packets_of(sound(4.0), [], packet_samples)
    return listen(recognizer.stream(modality="audio", lm=lm), packets)  # type: ignore[arg-type]


def test_streams_use_the_bundles_language_model_unless_told_otherwise(plain: Recognizer, path: Path) -> None:
    recognizer = avsr.load_model(path)
    without, by_default = hear(recognizer, "none").finals, hear(recognizer).finals
    assert by_default != without
    assert hear(recognizer, WordLm(train_ngrams(LINES), 3.0, -1.0)).finals == by_default
    assert hear(recognizer, WordLm(train_ngrams(LINES), 0.0)).finals == without
    assert hear(plain).finals == without, "weights do nothing without a language model"


def test_a_model_is_loaded_with_another_language_model_or_none(path: Path, tmp_path: Path) -> None:
    arpa = tmp_path / "words.arpa"
    arpa.write_bytes(write_arpa(train_ngrams(["bin bin bin"])))
    recognizer = avsr.load_model(path, lm=arpa)
    assert recognizer.lm is not None
    assert (recognizer.lm.weight, recognizer.lm.word_bonus) == (3.0, -1.0)
    assert hear(recognizer).finals == hear(avsr.load_model(path), recognizer.lm).finals
    assert avsr.load_model(path, lm="none").lm is None


@pytest.mark.parametrize("packet_samples", [100, 4_321, 64_000])
def test_packet_size_never_changes_captions_with_a_language_model(path: Path, packet_samples: int) -> None:
    recognizer = avsr.load_model(path)
    expected, heard = hear(recognizer), hear(recognizer, packet_samples=packet_samples)
    assert heard.finals == expected.finals
    for before, after in pairwise(heard.captions):
        if not before.is_final:
            assert after.text.startswith(before.text[: before.stable_chars]), "what is stable stays"


def test_a_damaged_language_model_is_refused_with_the_bundles_name(plain: Recognizer, tmp_path: Path) -> None:
    for name, lm_bytes in (("no_arpa", b"n-grams"), ("cut", gzip_arpa(train_ngrams(LINES))[:-40])):
        rebundle(plain, tmp_path / name, lm_bytes)
        with pytest.raises(BundleError, match=rf"{name}: lm\.arpa\.gz: the language model"):
            avsr.load_model(tmp_path / name)
        assert avsr.load_model(tmp_path / name, lm="none").lm is None


def test_a_language_model_that_unpacks_beyond_measure_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(path, tmp_path / "bomb")
    monkeypatch.setattr("avsr.recognizer.MAX_LM_TEXT_BYTES", 100)
    with pytest.raises(BundleError, match="n-grams are more than"):
        load_lm(load_bundle(tmp_path / "bomb"))
    assert (tmp_path / "bomb" / LM_FILE).exists()


HEAD = b"\\data\\\nngram 1=%d\n\n\\1-grams:\n"


@pytest.mark.parametrize(
    ("begin", "again", "message"),
    [
        (b"", b"\0", "longer than"),
        (HEAD % 4_000_000_000, b"-1 a\n", "n-grams are more than"),
        (HEAD % 100_000, b"-1 a\n", "listed twice"),
        (HEAD % 1_000, b"\n", "larger than is allowed"),
    ],
    ids=["no lines", "a number of n-grams", "the same word", "empty lines"],
)
def test_a_bomb_is_refused_before_it_takes_memory(
    plain: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes, again: bytes, message: str
) -> None:
    assert MAX_LM_TEXT_BYTES <= 64 << 20
    monkeypatch.setattr("avsr.recognizer.MAX_LM_TEXT_BYTES", 2 << 20)
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(begin) + b"".join(packer.compress(again * (1 << 20)) for _ in range(4)) + packer.flush()
    assert len(bomb) < MAX_BYTES[LM_FILE] / 100
    rebundle(plain, tmp_path / "bomb", bomb)
    bundle = load_bundle(tmp_path / "bomb")
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            load_lm(bundle)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_language_model_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.arpa"):
        avsr.load_model(path, lm=tmp_path / "absent.arpa")
    with pytest.raises(InputError, match="5 is no language model; give the path"):
        avsr.load_model(path, lm=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'bundle' is unknown; use a WordLm, 'none', or None"):
        hear(avsr.load_model(path), "bundle")
