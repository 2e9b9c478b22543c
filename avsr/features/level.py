"""Automatic gain for quiet microphones: their speech is made as loud as what models learn from; other sound is kept.

Log-mel features depend on absolute loudness: speech at -60 dB of full scale lies below their floor, and models were not
trained on it. The level of speech is tracked tick by tick. The floor is the lowest recent level; what is well above it
is speech, whose level is that of its loudest recent tick. Gain is applied around speech only, so a quiet room stays
quiet; a steady noise that begins soon becomes the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from avsr.types import MUTED_DB

USUAL_DB = -12.0
"""Level of the loudest ticks of usual speech (RMS of a tick, dB of full scale), to which quiet speech is raised."""
QUIET_DB = -35.0
"""Speech becomes quiet when its loudest ticks are below this ..."""
LOUD_ENOUGH_DB = -25.0
"""... and stays so until they are above this."""
MAX_GAIN_DB = 40.0
SPEECH_ABOVE_FLOOR_DB = 10.0
SYLLABLE_FALL_DB = 4.0
"""Only sound that has fallen this far below its peak is taken for quiet speech: steady noise does not fall."""
HOLD_TICKS = 12
"""The gain is held this long after speech (0.5 s), for the quiet ends of words and the stops in them."""
FLOOR_RISE_DB = 0.2
"""Rise of the floor per tick (5 dB a second), by which it recovers after an unusually quiet pause."""
SPEECH_FALL_DB = 0.04
"""Fall of the speech level per tick of speech (1 dB a second): slower than speech falls within a sentence."""


@dataclass(frozen=True, slots=True)
class LevelState:
    """``floor_db`` and ``speech_db``, None before either is known; ``is_quiet``: speech is to be made louder.

    ``num_silent_ticks`` counts the ticks since the last one with speech, at most ``HOLD_TICKS`` + 1.
    """

    floor_db: float | None = None
    speech_db: float | None = None
    is_quiet: bool = False
    num_silent_ticks: int = 0

    @property
    def gain_db(self) -> float:
        """Gain for the newest tick."""
        if not self.is_quiet or self.speech_db is None or self.num_silent_ticks > HOLD_TICKS:
            return 0.0
        return min(USUAL_DB - self.speech_db, MAX_GAIN_DB)

    def heard(self, tick_db: float) -> LevelState:
        """Return the state after a tick of this level. A muted microphone's ticks do not lower the floor."""
        silent = replace(self, num_silent_ticks=min(self.num_silent_ticks + 1, HOLD_TICKS + 1))
        if tick_db < MUTED_DB:
            return silent
        floor_db = tick_db if self.floor_db is None else min(tick_db, self.floor_db + FLOOR_RISE_DB)
        if tick_db <= floor_db + SPEECH_ABOVE_FLOOR_DB:
            return replace(silent, floor_db=floor_db)
        speech_db = tick_db if self.speech_db is None else max(tick_db, self.speech_db - SPEECH_FALL_DB)
        if self.is_quiet:
            return LevelState(floor_db, speech_db, is_quiet=speech_db < LOUD_ENOUGH_DB)
        return LevelState(floor_db, speech_db, is_quiet=speech_db < QUIET_DB and tick_db < speech_db - SYLLABLE_FALL_DB)
