"""The noises of a benchmark: which piece of which file is heard under which clip.

What is drawn depends on the seed, the kind of noise and the name of the clip and on nothing else: not on the order of
the clips nor on how many there are. A clip has the same noise at every SNR, so that its conditions can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from avsr.corpora import name_in, read_senses, read_table
from avsr.errors import InputError, MediaError
from avsr.evaluate.fingerprint import fingerprint
from avsr.media.naming import as_utf8
from avsr.media.noise import (
    LOWEST_HZ,
    MAX_BABBLE_VOICES,
    MIN_BABBLE_VOICES,
    coloured_noise,
    looped,
    loud_start,
    sum_voices,
)
from avsr.types import FloatArray

BABBLE = "babble"
"""The kind of noise that is mixed from 4 to 8 of its files, each a single voice, unless there is only one file."""
AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aiff", ".caf", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
    | {".avi", ".mkv", ".mov", ".mp4", ".webm"}
)
"""Files in a directory with other endings are no noise."""
MAX_CACHED_FILES = 64
SLOPES = {"white": 0.0, "pink": 1.0}
"""Noises that need no file, and how their power falls with frequency (see `coloured_noise`)."""

Reader = Callable[[Path], FloatArray]


@dataclass(frozen=True, slots=True)
class NoiseKind:
    """Noise of one kind: ``files`` as `conditions.tsv` names them; without files it is generated."""

    name: str
    files: tuple[tuple[str, Path], ...] = ()

    def fingerprint(self) -> str:
        """Return a hash that changes with the names and the content of the files, or with how it is generated.

        Raises:
            InputError: a file cannot be read.
        """
        if not self.files:
            return fingerprint([self.name, SLOPES[self.name], LOWEST_HZ], [])
        try:
            return fingerprint([self.name, [name for name, _ in self.files]], [path for _, path in self.files])
        except OSError as error:
            raise InputError(f"{self.name} noise: {error}") from error


@dataclass(frozen=True, slots=True)
class NoiseDraw:
    """The noise under one clip: ``samples`` f32 (n,), and where they come from, ``file@offset_samples``.

    ``key`` is the state (hexadecimal) from which the random generator of this draw began.
    """

    samples: FloatArray
    sources: tuple[str, ...]
    key: str


def parse_noise(spec: str, left_out: Collection[Path] = ()) -> NoiseKind:
    """Read what ``--noise`` was given.

    ``white`` and ``pink`` are generated. Anything else is a file, a directory (searched with its subdirectories) or a
    corpus table (``.tsv``: its rows whose split is the name of the kind), optionally as ``NAME=PATH``; without a name
    the kind is called after the file or directory. The kind ``babble`` is summed from voices, where there are several
    files. Files of ``left_out`` (resolved paths) are not used.

    Raises:
        InputError: there is no such path, or nothing is left in it.
    """
    if spec in SLOPES:
        return NoiseKind(spec)
    given_name, _, tail = spec.partition("=")
    path, name = (Path(tail), given_name) if tail and not Path(spec).exists() else (Path(spec), "")
    name = name or (path.resolve().name if path.is_dir() else path.stem)
    name = as_utf8(name)
    if path.is_dir():
        found = [(p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES]
    elif path.suffix == ".tsv":
        rows = [u.path for u in read_table(path) if u.split == name]
        found = [(name_in(path.parent, p), p) for p in rows]
    elif path.is_file():
        found = [(path.name, path)]
    else:
        known = " or ".join(SLOPES)
        raise InputError(f"--noise {spec}: no such file or directory; give one, {known}, or NAME=PATH")
    files = tuple((label, p) for label, p in sorted(found) if p.resolve() not in left_out)
    if not files:
        why = "all of its files were used for training" if found else "no audio file in it"
        raise InputError(f"--noise {spec}: {why} (for the noise type {name!r}); give another one")
    return NoiseKind(name, files)


def parse_noises(specs: Sequence[str], left_out: Collection[Path] = ()) -> list[NoiseKind]:
    """Read every ``--noise``; see `parse_noise`.

    Raises:
        InputError: one cannot be used, or two have the same name.
    """
    kinds: dict[str, NoiseKind] = {}
    for spec in specs:
        kind = parse_noise(spec, left_out)
        if kind.name in kinds:
            raise InputError(
                f"--noise {spec}: the noise type {kind.name!r} exists already; rename this one: NAME={spec}"
            )
        kinds[kind.name] = kind
    return list(kinds.values())


class NoiseLibrary:
    """Draws noise for clips; decoded files are kept, a limited number of them."""

    def __init__(self, kinds: Sequence[NoiseKind], seed: int, read: Reader | None = None) -> None:
        self.kinds = {kind.name: kind for kind in kinds}
        self._seed = seed
        self._read = lru_cache(MAX_CACHED_FILES)(read or _read_sound)

    def draw(self, kind_name: str, clip: str, num_samples: int) -> NoiseDraw:
        """Return ``num_samples`` of noise for the clip named ``clip``, at the level that it happens to have.

        A shorter file is looped; of a longer one a random piece is taken that is not a pause.

        Raises:
            InputError: a noise file cannot be read, or is silent.
        """
        kind = self.kinds[kind_name]
        key = hashlib.sha256(json.dumps([self._seed, kind_name, clip]).encode()).hexdigest()[:32]
        rng = np.random.default_rng(int(key, 16))
        if not kind.files:
            return NoiseDraw(coloured_noise(num_samples, SLOPES[kind_name], rng), (kind_name,), key)
        is_voices = kind_name == BABBLE and len(kind.files) > 1  # a single file is a recording of many
        num_files = int(rng.integers(MIN_BABBLE_VOICES, MAX_BABBLE_VOICES + 1)) if is_voices else 1
        chosen = rng.choice(len(kind.files), size=num_files, replace=num_files > len(kind.files))
        names = [kind.files[index][0] for index in chosen]
        pieces = [self._sound(kind, index) for index in chosen]
        if is_voices:
            starts = [int(rng.integers(len(piece))) for piece in pieces]
            samples = sum_voices(pieces, starts, num_samples)
        else:
            starts = [loud_start(pieces[0], num_samples, rng)]
            samples = looped(pieces[0], starts[0], num_samples)
        return NoiseDraw(samples, tuple(f"{n}@{s}" for n, s in zip(names, starts, strict=True)), key)

    def _sound(self, kind: NoiseKind, index: int) -> FloatArray:
        _, path = kind.files[index]
        try:
            samples = self._read(path)
        except MediaError as error:  # of the noise, not of the clip that it is mixed into
            raise InputError(f"--noise {kind.name}: {error}") from error
        if not samples.any():
            raise InputError(f"--noise {kind.name}: {path} is silent; remove it")
        return samples


def _read_sound(path: Path) -> FloatArray:
    return read_senses(path, "audio").samples
