"""The conditions of a benchmark: clean, and every kind of noise at every signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from avsr.errors import InputError

CLEAN_NAME = "clean"
MAX_SNR_DB = 60.0
"""Ratios beyond +-60 dB are refused as typing errors."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Sound with ``noise`` (the name of its kind) at ``snr_db``; both None: clean."""

    noise: str | None = None
    snr_db: float | None = None

    def __str__(self) -> str:
        """Name it as tables do: ``clean``, ``babble 0 dB``."""
        return CLEAN_NAME if self.noise is None or self.snr_db is None else f"{self.noise} {self.snr_db:g} dB"


CLEAN = Condition()


def parse_snrs(text: str) -> list[float | None]:
    """Read ``clean,20,0,-5`` as signal-to-noise ratios in dB, None for clean, each once.

    Raises:
        InputError: an item is neither ``clean`` nor a number of dB.
    """
    snrs_db: list[float | None] = []
    for item in text.split(","):
        item = item.strip()
        try:
            snr_db = None if item == CLEAN_NAME else float(item)
        except ValueError as error:
            raise InputError(f"{item!r} is not an SNR; give dB, or {CLEAN_NAME}: clean,10,0") from error
        if snr_db is not None and not (math.isfinite(snr_db) and abs(snr_db) <= MAX_SNR_DB):
            raise InputError(f"an SNR of {item} dB; give one from -{MAX_SNR_DB:g} to {MAX_SNR_DB:g}")
        if snr_db not in snrs_db:
            snrs_db.append(snr_db)
    return snrs_db


def grid(noises: Sequence[str], snrs_db: Sequence[float | None]) -> list[Condition]:
    """Return clean, where asked for, and every one of ``noises`` at every SNR.

    Raises:
        InputError: noise is asked for and there is none, or there is noise without an SNR.
    """
    noisy_db = [snr_db for snr_db in snrs_db if snr_db is not None]
    if noisy_db and not noises:
        raise InputError(
            f"--snr {noisy_db[0]:g} needs noise, and none is given; add --noise, or use --snr {CLEAN_NAME}"
        )
    if noises and not noisy_db:
        raise InputError(f"--noise {noises[0]} is given without an SNR; add one, such as --snr {CLEAN_NAME},0")
    clean = [CLEAN] if None in snrs_db else []
    return clean + [Condition(noise, snr_db) for noise in noises for snr_db in noisy_db]
