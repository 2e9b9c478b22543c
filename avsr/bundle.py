"""A model on disk: a few plain files, verified before any of them is used.

    config.yaml        avsr.config.BundleConfig
    model.safetensors  the weights, floats as fp16
    tokenizer.model    SentencePiece
    lm.arpa.gz         a word n-gram language model; not every bundle has one
    MODEL_CARD.md      what it is, what it was trained on, how good it is
    SHA256SUMS         of those above, as ``sha256sum`` writes it

A directory with anything else missing, changed, oversized, linked or added is refused; nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import yaml

from avsr.config import FORMAT_VERSION, BundleConfig, dump_config, parse_config
from avsr.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

BUNDLED_MODELS = Path(__file__).parent / "models"
DEFAULT_NAME = "default"
SUMS_FILE = "SHA256SUMS"
WEIGHTS_FILE = "model.safetensors"
LM_FILE = "lm.arpa.gz"
MAX_BYTES = {
    "config.yaml": 1 << 16,
    WEIGHTS_FILE: 64 << 20,
    "tokenizer.model": 1 << 20,
    LM_FILE: 16 << 20,
    "MODEL_CARD.md": 1 << 18,
    SUMS_FILE: 1 << 12,
}
"""What a bundle may hold, and how large each file may be."""
MAX_LM_TEXT_BYTES = 64 << 20
"""Limit of the language model's size when unpacked; real ones unpack to three to four times their packed size."""
OPTIONAL = frozenset({LM_FILE})
TENSOR_TYPES = frozenset({"F16", "I64", "BOOL"})
"""Weights and statistics are fp16; counters and masks keep their type."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, wholly in memory: later changes on disk do not reach it."""

    path: Path
    config: BundleConfig
    tokenizer_bytes: bytes = field(repr=False)
    card: str = field(repr=False)
    weights: bytes = field(repr=False)
    lm_bytes: bytes | None = field(default=None, repr=False)

    @property
    def num_bytes(self) -> int:
        """Size of what was read: weights, tokenizer, language model and card."""
        return len(self.weights) + len(self.tokenizer_bytes) + len(self.lm_bytes or b"") + len(self.card.encode())

    @property
    def identity(self) -> str:
        """Its name, version and hash, which together are unique."""
        return f"{self.config.name} {self.config.version} {self.sha256}"

    @cached_property
    def sha256(self) -> str:
        """First 16 hex digits of a hash of everything that captions depend on."""
        content = hashlib.sha256(self.weights)
        content.update(self.tokenizer_bytes)
        content.update(self.lm_bytes or b"")
        content.update(dump_config(self.config).encode())
        return content.hexdigest()[:16]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the weights by name, floats as f32, in memory of their own."""
        import torch
        from safetensors.torch import load

        tensors = load(self.weights)
        return {name: x.to(torch.float32) if x.is_floating_point() else x for name, x in tensors.items()}


@dataclass(frozen=True)
class Listing:
    """A bundle that was found: ``bundle`` when it is whole, else ``problem`` says why not."""

    name: str
    path: Path
    bundle: Bundle | None
    problem: str | None = None


def load_bundle(model: str | Path | None = None) -> Bundle:
    """Read and verify a bundle.

    ``model`` is None for the default that ships with avsr, a directory, or a name: looked up among the bundled models,
    then in the user's own (:func:`user_models`).

    Raises:
        BundleError: there is none, or it is damaged, of another version, oversized or holds anything else.
    """
    path = _find(model)
    files = {name: _read(path / name, limit) for name, limit in _checked_names(path).items()}
    _check_sums(path, files)
    _check_tensors(path, files[WEIGHTS_FILE])
    return Bundle(
        path=path,
        config=_parse(path, _decode(path, files, "config.yaml")),
        tokenizer_bytes=files["tokenizer.model"],
        card=_decode(path, files, "MODEL_CARD.md"),
        weights=files[WEIGHTS_FILE],
        lm_bytes=files.get(LM_FILE),
    )


def save_bundle(
    path: str | Path,
    config: BundleConfig,
    state_dict: Mapping[str, torch.Tensor],
    tokenizer_bytes: bytes,
    card: str,
    lm_bytes: bytes | None = None,
) -> None:
    """Write a bundle; ``path`` never holds half of one. An older bundle there is replaced.

    ``lm_bytes`` is an ARPA language model, gzip, as `avsr.train.ngram.gzip_arpa` makes it.

    Raises:
        BundleError: a weight is not finite in fp16, a file would be too large, ``path`` holds something else or cannot
            be written.
    """
    path = Path(path).resolve()
    files = {
        "config.yaml": dump_config(config).encode(),
        WEIGHTS_FILE: _pack(path, state_dict),
        "tokenizer.model": tokenizer_bytes,
        **({} if lm_bytes is None else {LM_FILE: lm_bytes}),
        "MODEL_CARD.md": card.encode(),
    }
    files[SUMS_FILE] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()
    for name, data in files.items():
        if len(data) > MAX_BYTES[name]:
            raise BundleError(f"{path}: {name} would be {len(data)} bytes; at most {MAX_BYTES[name]} are allowed")
    try:
        if path.exists() and not (path.is_dir() and {entry.name for entry in path.iterdir()} <= MAX_BYTES.keys()):
            raise BundleError(f"{path}: exists and is not a model bundle; choose another directory or remove it")
        _write_all(path, files)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written: {error.strerror}; choose another directory") from error


def list_bundles() -> tuple[Listing, ...]:
    """Look at every bundle among the bundled models and the user's own, whole or not; by place, then name."""
    return tuple(listing for place in _places() for listing in _look_into(place))


def user_models() -> Path:
    """Return the user's own model directory: ``$AVSR_MODELS``, or ``~/.local/share/avsr/models``."""
    chosen = os.environ.get("AVSR_MODELS")
    try:
        return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "avsr" / "models"
    except RuntimeError as error:
        raise BundleError(
            f"the directory of your models cannot be found: {error}; set AVSR_MODELS to a directory"
        ) from error


def _places() -> tuple[Path, Path]:
    return BUNDLED_MODELS, user_models()


def _look_into(place: Path) -> list[Listing]:
    try:
        if not place.is_dir():
            return []
        paths = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        return [Listing(place.name, place, None, f"cannot be listed: {error.strerror}; check its permissions")]
    return [_look_at(path) for path in paths]


def _look_at(path: Path) -> Listing:
    try:
        return Listing(path.name, path, load_bundle(path))
    except BundleError as error:
        return Listing(path.name, path, None, str(error).removeprefix(f"{path}: "))


def _find(model: str | Path | None) -> Path:
    if isinstance(model, str) and not model.strip():
        raise BundleError("the model's name is empty; give a name or a directory, or nothing for the default")
    name = DEFAULT_NAME if model is None else str(model)
    is_name = not isinstance(model, Path) and not name.startswith(("~", ".")) and Path(name).name == name
    try:
        if model is None:
            if (path := BUNDLED_MODELS / name).is_dir():
                return path
            raise BundleError(f"{path}: the default model is not installed; reinstall avsr or give a model")
        candidates = [place / name for place in _places()] if is_name else []
        candidates.append(Path(name).expanduser())
        for path in candidates:
            if path.is_dir():
                return path
        is_file = candidates[-1].exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of ~somebody is not known
        raise BundleError(f"{name}: cannot be looked up: {getattr(error, 'strerror', None) or error}") from error
    if is_file:
        raise BundleError(
            f"{name}: a model is a directory of {', '.join(sorted(MAX_BYTES.keys() - OPTIONAL))}; this is a file"
        )
    known = ", ".join(sorted({listing.name for listing in list_bundles()})) or "none"
    raise BundleError(
        f"{name}: no such model or directory; `avsr models` knows: {known} (looked in {user_models()} too)"
    )


def _checked_names(path: Path) -> dict[str, int]:
    """Compare the directory with what a bundle holds, links and sizes included, before anything is read."""
    try:
        entries = {entry.name: entry for entry in path.iterdir()}
    except OSError as error:
        raise BundleError(f"{path}: cannot be listed: {error.strerror}") from error
    if missing := sorted(MAX_BYTES.keys() - OPTIONAL - entries.keys()):
        raise BundleError(f"{path}: not a whole model bundle: {', '.join(missing)} missing; copy or download it again")
    if extra := sorted(entries.keys() - MAX_BYTES.keys()):
        raise BundleError(
            f"{path}: holds {', '.join(map(repr, extra))}, which a bundle may not contain; move it elsewhere"
        )
    limits = {name: limit for name, limit in MAX_BYTES.items() if name in entries}
    for name, limit in limits.items():
        try:
            status = entries[name].lstat()
        except OSError as error:
            raise BundleError(f"{path}: {name} cannot be looked at: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: {name} is a link or not a plain file; put the file itself there")
        if status.st_size > limit:
            raise BundleError(f"{path}: {name} has {status.st_size} bytes; at most {limit} are allowed")
    return limits


def _read(path: Path, limit: int) -> bytes:
    try:
        # No link is followed, nothing is waited for, little is read: the file may have been replaced since the check.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{path.parent}: {path.name} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise BundleError(f"{path.parent}: {path.name} grew past {limit} bytes while it was read")
    return data


def _check_sums(path: Path, files: dict[str, bytes]) -> None:
    expected = {}
    for line in _decode(path, files, SUMS_FILE).splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest.lower()
    if expected.keys() != files.keys() - {SUMS_FILE}:
        raise BundleError(f"{path}: {SUMS_FILE} must name each other file once, as `sha256sum` writes it")
    for name, digest in expected.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise BundleError(f"{path}: {name} is damaged or was changed: its SHA-256 differs from {SUMS_FILE}")


def _check_tensors(path: Path, weights: bytes) -> None:
    try:
        tensors = safetensors.deserialize(weights)
    except safetensors.SafetensorError as error:
        raise BundleError(f"{path}: model.safetensors is not a safetensors file: {error}") from error
    if not tensors:
        raise BundleError(f"{path}: model.safetensors holds no tensors")
    for name, tensor in tensors:
        if tensor["dtype"] not in TENSOR_TYPES:
            allowed = ", ".join(sorted(TENSOR_TYPES))
            raise BundleError(f"{path}: tensor {name!r} is {tensor['dtype']}; a bundle holds only {allowed}")


def _parse(path: Path, text: str) -> BundleConfig:
    try:
        values = yaml.safe_load(text)
        # Checked first and alone: another version may have other fields.
        version = values.get("format_version", FORMAT_VERSION) if isinstance(values, dict) else FORMAT_VERSION
    except (yaml.YAMLError, ValueError, RecursionError):
        version = FORMAT_VERSION
    if version != FORMAT_VERSION:
        raise BundleError(f"{path}: bundle format {version!r}; this avsr reads format {FORMAT_VERSION} only")
    try:
        return parse_config(text, BundleConfig, source="config.yaml")
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from error


def _decode(path: Path, files: dict[str, bytes], name: str) -> str:
    try:
        return files[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: {name} is not UTF-8 text: {error}") from error


def _pack(path: Path, state_dict: Mapping[str, torch.Tensor]) -> bytes:
    import torch
    from safetensors.torch import save

    tensors = {}
    for name, x in state_dict.items():
        packed = x.detach().to("cpu", torch.float16 if x.is_floating_point() else x.dtype)
        if not bool(torch.isfinite(packed).all()):
            raise BundleError(f"{path}: weight {name!r} is not finite in fp16; the model diverged or is badly scaled")
        # Cloned: safetensors refuses tensors that share memory, as tied weights do.
        tensors[name] = packed.clone(memory_format=torch.contiguous_format)
    return save(tensors)


def _write_all(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        whole = scratch / "new"
        whole.mkdir()
        for name, data in files.items():
            _write(whole / name, data)
        _swap(path, whole, scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _swap(path: Path, new: Path, old: Path) -> None:
    had_old = path.exists()
    if had_old:
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if had_old:
            old.rename(path)
        raise


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
