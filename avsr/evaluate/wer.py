"""Word and character errors: counted sentence by sentence, so that they can be summed over any set of sentences."""

from __future__ import annotations

from dataclasses import dataclass

import jiwer


@dataclass(frozen=True, slots=True)
class Errors:
    """The edits of the best alignment of a hypothesis with its reference of ``num_reference`` words or characters."""

    substitutions: int
    deletions: int
    insertions: int
    num_reference: int

    @property
    def total(self) -> int:
        """Edits of every kind."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits for each word or character of the reference, which has at least one."""
        return self.total / self.num_reference

    def __add__(self, other: Errors) -> Errors:
        """Return the errors of both, as of one corpus."""
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.num_reference + other.num_reference,
        )


NO_ERRORS = Errors(0, 0, 0, 0)


def word_errors(reference: str, hypothesis: str) -> Errors:
    """Count the errors of one sentence; words are what whitespace separates."""
    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    if not reference:
        return Errors(0, 0, len(hypothesis.split()), 0)
    found = jiwer.process_words(reference, hypothesis)
    return Errors(found.substitutions, found.deletions, found.insertions, len(reference.split()))


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Count the errors of one sentence in characters; the single space between two words is one of them."""
    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    if not reference:
        return Errors(0, 0, len(hypothesis), 0)
    found = jiwer.process_characters(reference, hypothesis)
    return Errors(found.substitutions, found.deletions, found.insertions, len(reference))
