"""Corpora: tables of clips and published layouts, and their clips as the engine sees and hears them."""

from avsr.corpora.layouts import read_corpus
from avsr.corpora.senses import read_clip, read_senses, read_sound
from avsr.corpora.tables import (
    AlignedWord,
    Utterance,
    are_timed,
    name_in,
    noise_files,
    noise_seen_in_training,
    of_split,
    read_table,
)

__all__ = [
    "AlignedWord",
    "Utterance",
    "are_timed",
    "name_in",
    "noise_files",
    "noise_seen_in_training",
    "of_split",
    "read_clip",
    "read_corpus",
    "read_senses",
    "read_sound",
    "read_table",
]
