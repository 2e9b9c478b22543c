"""Other recognisers beside avsr: two methods make one, and ``--compare`` takes it.

class Mine:
    def describe(self) -> str:
        return "mine 1.0, large model"

    def transcribe(self, samples: FloatArray, video: Path | None) -> str:
        return my_model(samples)

``avsr bench ... --compare my_module:Mine`` finds ``my_module.py`` here or on PYTHONPATH, calls ``Mine()`` once and
gives it every clip in every noise.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from avsr.errors import InputError
from avsr.evaluate.sphinx import PocketSphinx
from avsr.types import FloatArray

POCKETSPHINX = "pocketsphinx"


class Adapter(Protocol):
    """A recogniser of whole clips. It must not learn from one clip for the next, nor depend on their order."""

    def describe(self) -> str:
        """Say in a line what this is: name, version, model, settings. It goes into the report.

        Results that were kept from an earlier run are used again only where this line is the same.
        """
        ...

    def transcribe(self, samples: FloatArray, video: Path | None) -> str:
        """Return the words in ``samples``, f32 (n,) in [-1, 1], 16 kHz mono; "" for none.

        ``video`` is the file with the pictures, whose own sound is the clean one and must not be used; None where the
        clip has no pictures.
        """
        ...


def open_adapters(specs: Sequence[str], grammar: str | None = None) -> list[tuple[str, Adapter]]:
    """Open each as `open_adapter`; those whose names are the same are named by their modules, too.

    Raises:
        InputError: as for `open_adapter`; or one is given twice.
        MissingExtraError: as for `open_adapter`.
        TextError: as for `open_adapter`.
    """
    for spec in specs:
        if specs.count(spec) > 1:
            raise InputError(f"--compare {spec} is given twice; once is enough")
    opened = [(spec, *open_adapter(spec, grammar)) for spec in specs]
    names = [name for _, name, _ in opened]
    return [(name if names.count(name) == 1 else spec.replace(":", "."), adapter) for spec, name, adapter in opened]


def open_adapter(spec: str, grammar: str | None = None) -> tuple[str, Adapter]:
    """Open what ``--compare`` names: ``pocketsphinx``, or the class or function MODULE:NAME, called without arguments.

    ``grammar`` is for PocketSphinx: ``grid`` or a JSGF file.

    Returns:
        The name to be used in the report, and the adapter.

    Raises:
        InputError: there is no such adapter, or it lacks a method.
        MissingExtraError: PocketSphinx is not installed.
        TextError: the grammar cannot be used.
    """
    if spec == POCKETSPHINX:
        return spec, PocketSphinx(grammar)
    module_name, _, name = spec.partition(":")
    if not re.fullmatch(r"[\w.]+:\w+", spec):
        raise InputError(f"--compare {spec}: unknown; use {POCKETSPHINX}, or MODULE:NAME of an adapter of your own")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # where `python -m avsr` looks, too
    try:
        make = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--compare {spec}: {error}; is the module here, or on PYTHONPATH?") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"--compare {spec}: could not be imported: {type(error).__name__}: {error}") from error
    try:
        adapter: Adapter = make()
    except (Exception, SystemExit) as error:
        raise InputError(f"--compare {spec}: could not be made: {type(error).__name__}: {error}") from error
    missing = [method for method in ("describe", "transcribe") if not callable(getattr(adapter, method, None))]
    if missing:
        raise InputError(f"--compare {spec}: has no method {' nor '.join(missing)}; see avsr.evaluate.adapters.Adapter")
    try:
        description = adapter.describe()
    except (Exception, SystemExit) as error:
        raise InputError(f"--compare {spec}: cannot describe itself: {type(error).__name__}: {error}") from error
    if not isinstance(description, str):
        raise InputError(f"--compare {spec}: describe returned {type(description).__name__}, not a line as str")
    return name, adapter
