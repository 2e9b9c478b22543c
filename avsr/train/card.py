"""The part of a model card that is generated: counts of the training data and measured results."""

from __future__ import annotations

import re
from collections.abc import Mapping

from avsr.bundle import Bundle
from avsr.evaluate import markdown
from avsr.train.gather import NOISE_PACK, NOISE_SPLIT, TRAIN_SPLIT, VOICE_SPLIT, Packs
from avsr.train.loop import StageSummary
from avsr.train.packs.check import check_pack
from avsr.train.recipe import Branch, RecipeConfig

CLIP_COLUMNS = ("pack", "split", "clips", "speakers", "hours", "time with a face")
STAGE_COLUMNS = (
    "stage",
    "epochs",
    "steps",
    "hours of clips",
    "weights",
    "WER on dev, clean, greedy",
)
MAX_OLD_CHARS = 50_000
"""Of the card of the model that training went on from: cards must not grow without bound."""


def model_card(
    recipe: RecipeConfig, packs: Packs, start: Bundle | None, summaries: Mapping[Branch, StageSummary]
) -> str:
    """Return Markdown: the recipe's own words, the clips, what the stages did, and the card of ``start``."""
    head = recipe.card.rstrip() or f"# {recipe.name} {recipe.version}"
    sections = [f"{head}\n", f"## Clips\n\n{_clips(packs)}", f"## Training\n\n{stages_table(summaries)}"]
    if start is not None:
        named = f"{start.config.name} {start.config.version} (SHA-256 {start.sha256})"
        card = _demoted(start.card[:MAX_OLD_CHARS])
        sections.append(f"## Initial model\n\nTraining started from {named}, whose card follows.\n\n{card}")
    return "\n".join(sections)


def stages_table(summaries: Mapping[Branch, StageSummary]) -> str:
    """Return a Markdown table of what the stages did."""
    rows = [
        (stage, f"{s.epochs}", f"{s.steps}", f"{s.hours:.2f}", s.chosen, _rates(s.scores))
        for stage, s in summaries.items()
    ]
    return markdown.table(STAGE_COLUMNS, rows, num_left=len(STAGE_COLUMNS))


def _clips(packs: Packs) -> str:
    """Return a table of the training data."""
    rows = []
    for name, pack in packs.items():
        for split in check_pack(pack).splits:
            if split.split in (TRAIN_SPLIT, VOICE_SPLIT, NOISE_SPLIT):
                speakers = "-" if name == NOISE_PACK else f"{split.num_speakers}"
                hours, faces = f"{split.total_s / 3600:.2f}", f"{100 * split.visible_share:.0f} %"
                rows.append((name, split.split, f"{split.num_clips}", speakers, hours, faces))
    return markdown.table(CLIP_COLUMNS, rows, num_left=len(CLIP_COLUMNS))


def _demoted(card: str) -> str:
    """Put a card's headings a level lower."""
    return re.sub(r"^(#{1,5} )", r"#\1", card, flags=re.MULTILINE)


def _rates(scores: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.removesuffix('_wer').replace('_', ' ')} {100 * rate:.1f} %" for name, rate in scores.items()
    )
