"""A quiet microphone's sound, made as loud as what models learn from; of usual loudness it is left as it is.

Log-mel features are as absolute as the sound: speech at -60 dB of full scale lies below their floor, and networks have
never heard the like. How loud speech is cannot be told before it is there, so it is followed tick by tick: the floor is
the lowest level of late, and what stands well above it is speech, of which the loudest of late counts.
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
FLOOR_RISE_DB = 0.2
"""So fast the floor rises, per tick (5 dB a second): it finds its way back after a pause that was quieter than all."""
SPEECH_FALL_DB = 0.04
"""So fast loud speech is forgotten, per tick of speech (1 dB a second): slower than a sentence falls."""


@dataclass(frozen=True, slots=True)
class LevelState:
    """``floor_db`` and ``speech_db``, None before any; ``is_quiet`` says whether sound is amplified."""

    floor_db: float | None = None
    speech_db: float | None = None
    is_quiet: bool = False

    @property
    def gain_db(self) -> float:
        """How much louder the sound is made."""
        if not self.is_quiet or self.speech_db is None:
            return 0.0
        return min(USUAL_DB - self.speech_db, MAX_GAIN_DB)

    def heard(self, tick_db: float) -> LevelState:
        """Return what is known after a tick of this level; one from a muted microphone tells nothing."""
        if tick_db < MUTED_DB:
            return self
        floor_db = tick_db if self.floor_db is None else min(tick_db, self.floor_db + FLOOR_RISE_DB)
        if tick_db <= floor_db + SPEECH_ABOVE_FLOOR_DB:
            return replace(self, floor_db=floor_db)
        if self.speech_db is None or tick_db > self.speech_db:
            # A word that begins is no louder yet: only past its peak it can be called quiet.
            is_quiet = self.is_quiet and tick_db < LOUD_ENOUGH_DB
            return LevelState(floor_db, tick_db, is_quiet)
        speech_db = max(tick_db, self.speech_db - SPEECH_FALL_DB)
        return LevelState(floor_db, speech_db, speech_db < (LOUD_ENOUGH_DB if self.is_quiet else QUIET_DB))
