"""Caption files that grow, final by final, without keeping earlier finals in memory.

``add`` returns text to append for good, ``tail`` text that ends the file for now. ``head``, everything added, and
``tail`` make up the file that `avsr.captions.files.render` gives for all finals; only JSON omits the field ``text``,
which its segments hold, and has the duration at its end.
"""

from __future__ import annotations

import json
import textwrap

from avsr.captions.cues import lay_out
from avsr.captions.files import VTT_HEAD, segment_values, subtitles
from avsr.types import Caption, Transcript


def open_growth(about: Transcript, name: str) -> Growth:
    """Return the growing file of format ``name``, one of `avsr.captions.files.FORMATS`; ``about`` has no segments."""
    if name == "json":
        return JsonGrowth(about)
    return LineGrowth() if name == "txt" else SubtitleGrowth(name)


class LineGrowth:
    """Plain text: a line a final."""

    head = ""

    def add(self, final: Caption) -> str:
        """Return its line."""
        return f"{final.text}\n" if final.words else ""

    def tail(self) -> str:
        """Return an empty text: everything is settled."""
        return ""


class SubtitleGrowth:
    """SubRip or WebVTT."""

    def __init__(self, name: str) -> None:
        self.head = VTT_HEAD if name == "vtt" else ""
        self._name = name
        self._last: tuple[Caption, ...] = ()
        """The newest final: how long it is shown depends on the next one."""
        self._num_cues = 0
        """The number of cues before it; the last of them began at ``_after_s``."""
        self._after_s: float | None = None

    def add(self, final: Caption) -> str:
        """Return the cues of the final before this one."""
        settled = lay_out((*self._last, final), self._after_s)[: len(lay_out(self._last))]
        text = subtitles(settled, self._name, self._num_cues + 1)
        self._last = (final,)
        self._num_cues += len(settled)
        if settled:
            self._after_s = settled[-1].start_s
        return text

    def tail(self) -> str:
        """Return the newest final's cues."""
        return subtitles(lay_out(self._last, self._after_s), self._name, self._num_cues + 1)


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
        self._has_segments = False
        self._duration_s = 0.0

    def add(self, final: Caption) -> str:
        """Return its segment."""
        segment = json.dumps(segment_values(final), indent=2, ensure_ascii=False, allow_nan=False)
        text = ("," if self._has_segments else "") + "\n" + textwrap.indent(segment, "    ")
        self._has_segments, self._duration_s = True, final.end_s
        return text

    def tail(self) -> str:
        """Return the end of the list and of the document."""
        line = "\n  " if self._has_segments else ""
        return f'{line}],\n  "duration": {round(self._duration_s, 3)}\n}}\n'


Growth = LineGrowth | SubtitleGrowth | JsonGrowth
