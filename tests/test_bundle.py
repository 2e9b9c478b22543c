"""Bundles: what is saved is loaded, and anything else is refused before it is believed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avsr import bundle as bundles
from avsr.bundle import LM_FILE, MAX_BYTES, list_bundles, load_bundle, save_bundle
from avsr.config import BundleConfig, FeatureConfig, ModelConfig
from avsr.errors import BundleError
from avsr.recognizer import load_model

CONFIG = BundleConfig(
    name="tiny",
    version="0.1",
    model=ModelConfig(vocab_size=30),
    features=FeatureConfig(mel_mean=(0.0,) * 80, mel_std=(1.0,) * 80),
)
WEIGHTS = {"layer.weight": torch.linspace(-2, 2, 12).reshape(3, 4), "layer.steps": torch.tensor(70_000)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "tiny"
    save_bundle(path, CONFIG, WEIGHTS, b"pieces", "# A tiny model\n")
    return path


def resum(path: Path) -> None:
    """Make the sums right again, so that the next check is the one that refuses."""
    names = sorted(file.name for file in path.iterdir() if file.name != "SHA256SUMS")
    digests = [hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names]
    (path / "SHA256SUMS").write_text("".join(f"{d}  {n}\n" for d, n in zip(digests, names, strict=True)))


def test_what_is_saved_is_loaded(saved: Path) -> None:
    bundle = load_bundle(saved)
    assert sorted(path.name for path in saved.iterdir()) == sorted(MAX_BYTES.keys() - {LM_FILE})
    assert (bundle.config, bundle.tokenizer_bytes, bundle.card) == (CONFIG, b"pieces", "# A tiny model\n")
    assert bundle.lm_bytes is None
    state = bundle.state_dict()
    assert state["layer.weight"].dtype == torch.float32
    torch.testing.assert_close(state["layer.weight"], WEIGHTS["layer.weight"].half().float(), rtol=0, atol=0)
    assert state["layer.steps"] == 70_000
    assert [path.name for path in saved.parent.iterdir()] == ["tiny"], "nothing temporary is left behind"


def test_a_language_model_is_kept_where_there_is_one(saved: Path) -> None:
    plain_bytes = load_bundle(saved).num_bytes
    save_bundle(saved, CONFIG, WEIGHTS, b"pieces", "# A tiny model\n", b"n-grams")
    bundle = load_bundle(saved)
    assert bundle.lm_bytes == b"n-grams" and bundle.num_bytes == plain_bytes + 7
    assert LM_FILE in (saved / "SHA256SUMS").read_text()
    (saved / LM_FILE).write_bytes(b"n-Grams")
    with pytest.raises(BundleError, match=r"lm\.arpa\.gz is damaged"):
        load_bundle(saved)
    save_bundle(saved, CONFIG, WEIGHTS, b"pieces", "# A tiny model\n")
    assert load_bundle(saved).lm_bytes is None, "the new bundle has none, so the old one's is gone"


def test_a_language_model_that_the_sums_do_not_name_is_refused(saved: Path) -> None:
    (saved / LM_FILE).write_bytes(b"n-grams")
    with pytest.raises(BundleError, match="must name each other file once"):
        load_bundle(saved)


def test_a_language_model_that_is_too_large_is_not_saved(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAX_BYTES, LM_FILE, 6)
    with pytest.raises(BundleError, match=r"lm\.arpa\.gz would be 7 bytes"):
        save_bundle(saved, CONFIG, WEIGHTS, b"pieces", "card", b"n-grams")


def test_a_loaded_bundle_no_longer_looks_at_the_disk(saved: Path) -> None:
    bundle = load_bundle(saved)
    (saved / "model.safetensors").write_bytes(b"changed")
    bundle.state_dict()["layer.weight"].zero_()
    assert bundle.state_dict()["layer.weight"].abs().sum() > 0


def test_saving_again_replaces_a_bundle_but_nothing_else(saved: Path) -> None:
    save_bundle(saved, CONFIG.model_copy(update={"version": "0.2"}), WEIGHTS, b"pieces", "card")
    assert load_bundle(saved).config.version == "0.2"
    (saved / "thesis.doc").write_text("years of work")
    with pytest.raises(BundleError, match="not a model bundle"):
        save_bundle(saved, CONFIG, WEIGHTS, b"pieces", "card")
    assert (saved / "thesis.doc").exists()


def test_a_save_that_fails_leaves_the_old_bundle_whole(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "_write", full_disk)
    with pytest.raises(BundleError, match="cannot be written: No space"):
        save_bundle(saved, CONFIG, WEIGHTS, b"other", "card")
    assert load_bundle(saved).tokenizer_bytes == b"pieces"
    assert [path.name for path in saved.parent.iterdir()] == ["tiny"]


def test_weights_that_are_not_finite_in_fp16_are_not_saved(tmp_path: Path) -> None:
    for value in (1e6, float("nan")):
        with pytest.raises(BundleError, match="'w' is not finite"):
            save_bundle(tmp_path / "m", CONFIG, {"w": torch.tensor([value])}, b"", "")


def test_tied_weights_and_strided_views_are_saved(tmp_path: Path) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    save_bundle(tmp_path / "m", CONFIG, {"a": x, "b": x, "c": x.T}, b"", "")
    state = load_bundle(tmp_path / "m").state_dict()
    assert torch.equal(state["a"], x) and torch.equal(state["b"], x) and torch.equal(state["c"], x.T)


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-this-name/model"])
def test_a_name_that_cannot_be_looked_for_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="cannot be looked up"):
        load_bundle(name)


def test_an_unreadable_model_directory_is_listed_as_such(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSR_MODELS", str(saved.parent))

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", closed)
    listing = list_bundles()[-1]
    assert (listing.path, listing.bundle) == (saved.parent, None)
    assert "Permission denied" in str(listing.problem)


def _grow(path: Path) -> None:
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(MAX_BYTES["model.safetensors"] + 1)


def _link(path: Path) -> None:
    outside = path.parent / "outside.model"
    (path / "tokenizer.model").rename(outside)
    (path / "tokenizer.model").symlink_to(outside)


def _fifo(path: Path) -> None:
    (path / "tokenizer.model").unlink()
    os.mkfifo(path / "tokenizer.model")


def _replace(path: Path, name: str, old: str, new: str) -> None:
    text = (path / name).read_text()
    assert old in text
    (path / name).write_text(text.replace(old, new))
    resum(path)


def _weights(path: Path, data: bytes) -> None:
    (path / "model.safetensors").write_bytes(data)
    resum(path)


def _tensors(header: dict[str, object], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file is missing": (lambda p: (p / "tokenizer.model").unlink(), "tokenizer.model missing"),
    "a file was added": (
        lambda p: (p / "weights.pkl").write_bytes(b""),
        "'weights.pkl', which a bundle may not contain",
    ),
    "a hidden file was added": (lambda p: (p / ".x").write_bytes(b""), "'.x', which a bundle may not contain"),
    "a folder was added": (lambda p: (p / "extra").mkdir(), "'extra', which a bundle may not contain"),
    "a file is a link": (_link, "tokenizer.model is a link"),
    "a file is a pipe": (_fifo, "not a plain file"),
    "a file is oversized": (_grow, "at most 67108864"),
    "one byte changed": (lambda p: (p / "tokenizer.model").write_bytes(b"piecez"), "tokenizer.model is damaged"),
    "the sums are empty": (lambda p: (p / "SHA256SUMS").write_text(""), "must name each other file once"),
    "the sums are binary": (lambda p: (p / "SHA256SUMS").write_bytes(b"\xff"), "not UTF-8"),
    "another version": (lambda p: _replace(p, "config.yaml", "format_version: 1", "format_version: 2"), "format 2"),
    "a wrong setting": (lambda p: _replace(p, "config.yaml", "dim: 192", "dim: 0"), "model.dim: 0"),
    "the config is no YAML": (lambda p: _replace(p, "config.yaml", "model:", "model: ["), "not valid YAML"),
    "the weights are a pickle": (lambda p: _weights(p, b"\x80\x04N."), "not a safetensors file"),
    "the weights are empty": (lambda p: _weights(p, b""), "not a safetensors file"),
    "there are no weights": (lambda p: _weights(p, _tensors({}, b"")), "holds no tensors"),
    "a tensor ends past the file": (
        lambda p: _weights(p, _tensors({"w": {"dtype": "F16", "shape": [9], "data_offsets": [0, 18]}}, b"\0\0")),
        "not a safetensors file",
    ),
    "a tensor's size is not its shape": (
        lambda p: _weights(p, _tensors({"w": {"dtype": "F16", "shape": [9], "data_offsets": [0, 2]}}, b"\0\0")),
        "not a safetensors file",
    ),
    "a tensor is of another type": (
        lambda p: _weights(p, _tensors({"w": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8)),
        "'w' is F64",
    ),
}


@pytest.mark.parametrize("case", SPOILERS)
def test_a_spoilt_bundle_is_refused_with_the_reason(saved: Path, case: str) -> None:
    spoil, says = SPOILERS[case]
    spoil(saved)
    with pytest.raises(BundleError, match=says) as raised:
        load_bundle(saved)
    assert str(saved) in str(raised.value)


def test_a_file_that_cannot_be_looked_at_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(BundleError, match=r"config\.yaml cannot be looked at: Permission denied"):
        load_bundle(saved)


def test_a_damaged_tokenizer_is_reported_as_an_error_of_its_bundle(saved: Path) -> None:
    with pytest.raises(BundleError, match=rf"{saved}: the tokenizer model cannot be read"):
        load_model(saved)


def test_sizes_are_checked_before_anything_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _grow(saved)
    monkeypatch.setattr(bundles, "_read", lambda *_: pytest.fail("read before its size was checked"))
    with pytest.raises(BundleError, match="at most"):
        load_bundle(saved)


def test_a_name_is_looked_up_and_an_unknown_one_lists_the_known(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "BUNDLED_MODELS", saved.parent / "nowhere")
    monkeypatch.setenv("AVSR_MODELS", str(saved.parent))
    assert load_bundle("tiny").path == saved
    with pytest.raises(BundleError, match=r"no such model or directory.*knows: tiny"):
        load_bundle("tinny")
    with pytest.raises(BundleError, match="default model is not installed"):
        load_bundle()
    with pytest.raises(BundleError, match="empty"):
        load_bundle("")
    with pytest.raises(BundleError, match="this is a file"):
        load_bundle(saved / "config.yaml")


def test_the_default_comes_from_the_package_alone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory called ``default`` elsewhere never stands in for the model that ships."""
    monkeypatch.setattr(bundles, "BUNDLED_MODELS", saved.parent / "bundled")
    save_bundle(saved.parent / "user" / "default", CONFIG, WEIGHTS, b"theirs", "")
    monkeypatch.setenv("AVSR_MODELS", str(saved.parent / "user"))
    with pytest.raises(BundleError, match="not installed"):
        load_bundle()
    save_bundle(saved.parent / "bundled" / "default", CONFIG, WEIGHTS, b"ours", "")
    assert load_bundle().tokenizer_bytes == b"ours"


def test_a_models_directory_that_does_not_exist_hides_only_the_users_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSR_MODELS", "~nosuchuser/models")
    assert load_bundle().config.name == "default"
    with pytest.raises(BundleError, match="set AVSR_MODELS"):
        list_bundles()


def test_listing_shows_whole_and_damaged_bundles(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "BUNDLED_MODELS", saved.parent / "nowhere")
    monkeypatch.setenv("AVSR_MODELS", str(saved.parent))
    (saved.parent / "broken").mkdir()
    (saved.parent / ".tiny.abc").mkdir()
    broken, tiny = list_bundles()
    assert (broken.name, broken.bundle) == ("broken", None)
    assert broken.problem is not None and "missing" in broken.problem
    assert tiny.bundle is not None and tiny.bundle.config == CONFIG
