"""Caption files that grow, final by final, without their beginnings being kept.

Each format is a stage: ``step`` returns what can be appended for good, ``flush`` what has to stand at the end for now.
The head, all that the steps returned, and the flush are together the file that `avsr.captions.files.render` makes of
all finals; only JSON leaves out the field ``text``, which its segments hold, and has the duration at its end.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import Any, Protocol

from avsr.captions.cues import lay_out
from avsr.captions.files import VTT_HEAD, segment_values, subtitles
from avsr.types import Caption, Transcript


class Growth(Protocol):
    """A growing file of one format; its state is a value, as everywhere."""

    head: str
    """What it begins with."""

    def init_state(self) -> Any:
        """Return the state before the first final."""
        ...

    def step(self, final: Caption, state: Any) -> tuple[str, Any]:
        """Take one more final; return what will not change any more."""
        ...

    def flush(self, state: Any) -> str:
        """Return what makes the file whole, as of now."""
        ...


def open_growth(about: Transcript, name: str) -> Growth:
    """Return the growing file of format ``name``, one of `avsr.captions.files.FORMATS`; ``about`` has no segments."""
    if name == "json":
        return JsonGrowth(about)
    return LineGrowth() if name == "txt" else SubtitleGrowth(name)


class LineGrowth:
    """Plain text: a line a final."""

    head = ""

    def init_state(self) -> None:
        """Nothing need be known."""

    def step(self, final: Caption, state: None) -> tuple[str, None]:
        """Return its line."""
        return f"{final.text}\n" if final.words else "", None

    def flush(self, state: None) -> str:
        """All is settled."""
        return ""


@dataclass(frozen=True, slots=True)
class SubtitleState:
    """``last`` is the newest final, whose end on the screen the next one decides; before it came ``num_cues``.

    The last of those began at ``after_s``.
    """

    last: Caption | None = None
    num_cues: int = 0
    after_s: float | None = None


class SubtitleGrowth:
    """SubRip or WebVTT."""

    def __init__(self, name: str) -> None:
        self.head = VTT_HEAD if name == "vtt" else ""
        self._name = name

    def init_state(self) -> SubtitleState:
        """No cue yet."""
        return SubtitleState()

    def step(self, final: Caption, state: SubtitleState) -> tuple[str, SubtitleState]:
        """Return the cues of the final before this one."""
        if state.last is None:
            return "", SubtitleState(final)
        num_settled = len(lay_out((state.last,)))
        settled = lay_out((state.last, final), state.after_s)[:num_settled]
        after_s = settled[-1].start_s if settled else state.after_s
        text = subtitles(settled, self._name, state.num_cues + 1)
        return text, SubtitleState(final, state.num_cues + num_settled, after_s)

    def flush(self, state: SubtitleState) -> str:
        """Return the newest final's cues."""
        last = () if state.last is None else (state.last,)
        return subtitles(lay_out(last, state.after_s), self._name, state.num_cues + 1)


@dataclass(frozen=True, slots=True)
class JsonState:
    """Whether there are segments, and when the last one ends."""

    has_segments: bool = False
    duration_s: float = 0.0


class JsonGrowth:
    """JSON: the segments are its last list."""

    def __init__(self, about: Transcript) -> None:
        document = {
            "source": about.source,
            "model": about.model,
            "version": about.version,
            "modality": about.modality,
            "rtf": None,
            "warnings": list(about.warnings),
        }
        self.head = json.dumps(document, indent=2, ensure_ascii=False).removesuffix("\n}") + ',\n  "segments": ['

    def init_state(self) -> JsonState:
        """No segment yet."""
        return JsonState()

    def step(self, final: Caption, state: JsonState) -> tuple[str, JsonState]:
        """Return its segment."""
        segment = json.dumps(segment_values(final), indent=2, ensure_ascii=False, allow_nan=False)
        text = ("," if state.has_segments else "") + "\n" + textwrap.indent(segment, "    ")
        return text, JsonState(True, final.end_s)

    def flush(self, state: JsonState) -> str:
        """Close the list and the document."""
        line = "\n  " if state.has_segments else ""
        return f'{line}],\n  "duration": {round(state.duration_s, 3)}\n}}\n'
