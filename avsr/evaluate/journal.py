"""Results of a benchmark on disk, so that a run that was stopped, or is extended, continues where it was.

settings.json   all that results depend on besides their condition and system, with a hash of each clip
journal.jsonl   a line for every result, every noise that was mixed, and every clip that is not whole
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from avsr.disk import hold, write_whole, writing
from avsr.errors import InputError
from avsr.evaluate.conditions import Condition

SETTINGS_FILE = "settings.json"
JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Mix:
    """The noise under a clip: levels in dB of full scale before mixing, None for silence; see `NoiseDraw`."""

    sources: tuple[str, ...]
    key: str
    speech_active_db: float | None
    noise_db: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """A `Recognition` as it is stored; latencies, seconds, count from the speech, not from the start of the clip.

    The first four are the same in every run; ``live_*``, ``work_s`` and ``duration_s`` were timed.
    """

    text: str
    audio_weight: float | None
    first_word_latency_s: float | None
    final_latency_s: float | None
    live_first_word_latency_s: float | None
    live_final_latency_s: float | None
    work_s: float
    duration_s: float


MixKey = tuple[str, Condition]
ResultKey = tuple[str, Condition, str]


class Journal:
    """Mixes by clip and condition, and results by clip, condition and system. A context manager.

    ``defects`` says what is wrong with clips that are damaged or cut off.

    Raises:
        InputError: the directory has results that were made with other settings, is in use, or is damaged.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        self.defects: dict[str, str] = {}
        self.mixes: dict[MixKey, Mix] = {}
        self.results: dict[ResultKey, Result] = {}
        self._path = directory / JOURNAL_FILE
        try:
            self._file = self._path.open("a+b")
            try:
                hold(self._file, directory)
                self._read()
                measured = {*self.defects, *(mix[0] for mix in self.mixes), *(result[0] for result in self.results)}
                _check_settings(directory / SETTINGS_FILE, settings, measured)
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise InputError(f"{directory}: cannot be used: {error.strerror}; choose another -o DIR") from error

    def add_defect(self, clip: str, defect: str) -> None:
        """Keep what is wrong with a clip that is measured all the same.

        Raises:
            InputError: it cannot be written, as where the disk is full.
        """
        if clip not in self.defects:
            self._write({"clip": clip, "lack": defect})
            self.defects[clip] = defect

    def add_mix(self, clip: str, condition: Condition, mix: Mix) -> None:
        """Keep which noise was mixed; a kill after this returns does not lose it.

        Raises:
            InputError: it cannot be written, as where the disk is full.
        """
        if (clip, condition) not in self.mixes:
            self._write({"clip": clip, **asdict(condition), "mix": asdict(mix)})
            self.mixes[clip, condition] = mix

    def add_result(self, clip: str, condition: Condition, system: str, result: Result) -> None:
        """Keep a result; a kill after this returns does not lose it.

        Raises:
            InputError: it cannot be written, as where the disk is full.
        """
        self._write({"clip": clip, **asdict(condition), "system": system, "result": asdict(result)})
        self.results[clip, condition, system] = result

    def __enter__(self) -> Journal:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, for another run to open."""
        with suppress(OSError):  # told of when it was written
            self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._file.truncate(len(whole))  # what was being written when the run was killed
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(
                    f"{self._path}:{number}: damaged; delete the line, or choose another -o DIR"
                ) from error

    def _take(self, row: dict[str, Any]) -> None:
        if "lack" in row:
            _require_type(str, row["lack"])
            self.defects[row["clip"]] = row["lack"]
            return
        condition = Condition(row["noise"], row["snr_db"])
        if "mix" in row:
            mix = Mix(**row["mix"])
            _require_type(str, *mix.sources, mix.key)
            _require_type(float | int | None, mix.speech_active_db, mix.noise_db)
            self.mixes[row["clip"], condition] = Mix(tuple(mix.sources), mix.key, mix.speech_active_db, mix.noise_db)
        else:
            result = Result(**row["result"])
            text, *numbers = astuple(result)
            _require_type(str, text)
            _require_type(float | int | None, *numbers)
            _require_type(float | int, result.work_s, result.duration_s)
            self.results[row["clip"], condition, row["system"]] = result

    def _write(self, row: dict[str, Any]) -> None:
        with writing(self._path):
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()


def _require_type(kind: type | UnionType, *values: object) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind}")


def _check_settings(path: Path, settings: Mapping[str, Any], measured: Collection[str]) -> None:
    """Refuse ``settings`` that contradict those in ``path``; else write both there: a run may extend an earlier one.

    Hashes of clips without results (not ``measured``) are ignored; without any results the whole file is.
    """
    known: dict[str, Any] = {}
    if measured and path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            _require_type(dict, known)
            clips = known.get("clips", {})
            _require_type(dict, clips)
            known["clips"] = {clip: clips.get(clip) for clip in measured}
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: damaged; choose another -o DIR") from error
    for where, there, here in _differences(known, settings):
        raise InputError(
            f"{path.parent}: has results of another configuration ({where} was {there!r} and is {here!r} now); "
            "choose another -o DIR, or delete that one"
        )
    write_whole(path, json.dumps(_merged(known, settings), indent=2, sort_keys=True) + "\n")


def _differences(known: Mapping[str, Any], settings: Mapping[str, Any], where: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in known.keys() & settings.keys():
        there, here, place = known[name], settings[name], f"{where} {name}".strip()
        if isinstance(there, dict) and isinstance(here, Mapping):
            found += _differences(there, here, place)
        elif there != here:
            found.append((place, there, here))
    return sorted(found, key=lambda difference: difference[0])


def _merged(known: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    both = {**known, **settings}
    for name in known.keys() & settings.keys():
        if isinstance(known[name], dict):
            both[name] = _merged(known[name], settings[name])
    return both
