"""A quiet microphone's sound, made as loud as what models learn from; of usual loudness it is left as it is.

Log-mel features are as absolute as the sound: speech at -60 dB of full scale lies below their floor, and networks have
never heard the like. How loud speech is cannot be told before it is there, so it is followed tick by tick: the floor is
the lowest level of late, and what stands well above it is speech, as loud as the loudest of it. Only speech is made
louder: a room is not, and a noise that begins is soon the floor itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from avsr.types import MUTED_DB

USUAL_DB = -12.0
"""The loudest ticks of usual speech (dB of full scale, RMS of a tick); quiet speech is brought there."""
QUIET_DB = -35.0
"""Speech whose loudest ticks are below this is quiet ..."""
LOUD_ENOUGH_DB = -25.0
"""... until they are above this."""
MAX_GAIN_DB = 40.0
SPEECH_ABOVE_FLOOR_DB = 10.0
SYLLABLE_FALL_DB = 4.0
"""Speech rises and falls: only what has fallen so far below its peak is called quiet, no noise that begins."""
HOLD_TICKS = 12
"""So long after speech sound is still made louder (0.5 s): words have quiet ends, and stops in them."""
FLOOR_RISE_DB = 0.2
"""So fast the floor rises, per tick (5 dB a second): it finds its way back after the quietest pause."""
SPEECH_FALL_DB = 0.04
"""So fast loud speech is forgotten, per tick of speech (1 dB a second of it): slower than a sentence falls."""


@dataclass(frozen=True, slots=True)
class LevelState:
    """``floor_db`` and ``speech_db``, None before any; ``is_quiet`` says whether speech is made louder.

    ``num_silent_ticks`` counts the ticks since the last one of speech, up to one more than ``HOLD_TICKS``.
    """

    floor_db: float | None = None
    speech_db: float | None = None
    is_quiet: bool = False
    num_silent_ticks: int = 0

    @property
    def gain_db(self) -> float:
        """How much louder the sound is made."""
        if not self.is_quiet or self.speech_db is None or self.num_silent_ticks > HOLD_TICKS:
            return 0.0
        return min(USUAL_DB - self.speech_db, MAX_GAIN_DB)

    def heard(self, tick_db: float) -> LevelState:
        """Return what is known after a tick of this level; one from a muted microphone tells of no floor."""
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
