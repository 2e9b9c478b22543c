"""What a model card says of how the model was trained: measured, not meant."""

from __future__ import annotations

from collections.abc import Mapping

from avsr.train.loop import StageSummary
from avsr.train.recipe import Branch

COLUMNS = ("stage", "epochs", "steps", "hours of clips heard", "weights", "word error rates on dev, clean, greedy")


def training_section(summaries: Mapping[Branch, StageSummary]) -> str:
    """Return a Markdown section of what the stages did."""
    rows = [
        (stage, f"{s.epochs}", f"{s.steps}", f"{s.hours:.2f}", s.chosen, _rates(s.scores))
        for stage, s in summaries.items()
    ]
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return "## Training\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in table)


def _rates(scores: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.removesuffix('_wer').replace('_', ' ')} {100 * rate:.1f} %" for name, rate in scores.items()
    )
