"""Systems that recognise what the test wants, for tests of the bench around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsr.corpora import Utterance
from avsr.evaluate.bench import Plan
from avsr.evaluate.clips import ClipUnderTest
from avsr.evaluate.conditions import CLEAN, Condition
from avsr.evaluate.noises import NoiseKind, NoiseLibrary
from avsr.evaluate.systems import Recognition
from avsr.media import active_rms
from avsr.types import FloatArray

TEXT = "bin blue at f two now"
NOISY = [CLEAN, Condition("white", 0.0), Condition("white", -5.0)]


@dataclass
class FakeSystem:
    """Recognises all but the last word, in louder sound one word less; counts its calls."""

    name: str = "fake"
    uses_sound: bool = True
    sounds: list[tuple[str, FloatArray]] = field(default_factory=list)
    stop_after: int | None = None

    @property
    def title(self) -> str:
        return f"the {self.name} one"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"model": "fake"}

    def recognise(self, clip: ClipUnderTest, sound: FloatArray) -> Recognition:
        if len(self.sounds) == self.stop_after:
            raise KeyboardInterrupt
        self.sounds.append((clip.utterance.path.name, sound))
        words = clip.utterance.text.split()[: -2 if active_rms(sound) > 1.1 * active_rms(clip.samples) else -1]
        return Recognition(" ".join(words), 4.0, 0.5, 0.75, 1.0, 3.5, 1.1, 3.9)


def corpus(directory: Path, clip: Path, num_clips: int = 3) -> dict[str, Utterance]:
    """Return ``num_clips`` links to ``clip``, of two speakers, by name."""
    found = {}
    for index in range(num_clips):
        path = directory / f"{index}.mp4"
        if not path.exists():
            path.symlink_to(clip)
        found[path.name] = Utterance(path, f"s{index % 2}", "test", TEXT, ())
    return found


def plan_of(clips: dict[str, Utterance], *systems: FakeSystem, conditions: list[Condition] | None = None) -> Plan:
    """Return a plan with white noise."""
    return Plan(clips, systems, conditions or NOISY, NoiseLibrary([NoiseKind("white")], seed=0))
