"""The figure of a benchmark: word error rate against signal-to-noise ratio, a panel for each kind of noise."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from avsr.errors import MissingExtraError
from avsr.evaluate.conditions import CLEAN_NAME
from avsr.evaluate.scores import Rate, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers (Okabe and Ito 2008), and, with the markers, in print without colour."""
MARKERS = "osD^vP*"
PANEL_SIZE_IN = (4.4, 3.4)
LEGEND_ROW_IN = 0.25
MAX_COLUMNS = 3
CLEAN_GAP_DB = 5.0
"""How far right of the highest ratio clean sound is drawn."""
PRINT_DPI = 300


def require_matplotlib() -> None:
    """Fail before the work, not after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("the plots need matplotlib; install it with: pip install 'avsr[bench]'")


def plot_wer(scores: Sequence[Score], titles: Mapping[str, str], caption: str) -> Figure:
    """Draw the word error rates of all speakers together, with bands of their intervals.

    A system that does not hear noise is a dashed line across. ``titles`` names the systems for people.
    """
    from matplotlib.figure import Figure

    noises: list[str | None] = list(dict.fromkeys(s.condition.noise for s in scores if s.condition.noise)) or [None]
    num_columns = 2 if len(noises) == 4 else min(len(noises), MAX_COLUMNS)
    num_rows = -(-len(noises) // num_columns)
    num_legend_columns = 2 * num_columns
    legend_in = LEGEND_ROW_IN * -(-len(titles) // num_legend_columns)
    size = (PANEL_SIZE_IN[0] * num_columns, PANEL_SIZE_IN[1] * num_rows + legend_in)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flatten()
    for panel in panels[len(noises) :]:
        panel.set_visible(False)
    highest = max(score.wer.high for score in scores)
    for noise, panel in zip(noises, panels, strict=False):
        _draw_panel(panel, [s for s in scores if s.condition.noise in (noise, None)], titles, noise)
        panel.set_ylim(0, max(5.0, 105 * highest))
    for panel in panels[::num_columns]:
        panel.set_ylabel("word error rate, %")
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside upper center", ncols=num_legend_columns, frameon=False, fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name with dollar signs is no formula
    figure.supxlabel(caption, fontsize=7)
    return figure


def as_png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    return _saved(figure, format="png", dpi=PRINT_DPI, metadata={"Software": None})


def as_pdf(figure: Figure) -> bytes:
    """Return the figure as a PDF file, for print."""
    return _saved(figure, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables beside the figure have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def _draw_panel(panel: Axes, scores: Sequence[Score], titles: Mapping[str, str], noise: str | None) -> None:
    """Draw one kind of noise, clean sound at the right end; without any noise, the systems side by side."""
    snrs_db = sorted({s.condition.snr_db for s in scores if s.condition.snr_db is not None})
    ticks = [(snr_db, f"{snr_db:g}") for snr_db in snrs_db]
    clean_x = snrs_db[-1] + CLEAN_GAP_DB if snrs_db else 0.0
    for index, (system, title) in enumerate(titles.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        rates = {s.condition.snr_db: s.wer for s in scores if s.system == system}
        if not snrs_db:
            points = [(float(index), rates[None])]
        elif set(rates) == {None}:  # it does not hear noise
            points, marker = [(x, rates[None]) for x in (snrs_db[0], clean_x)], ""
        else:
            points = [(clean_x if snr_db is None else snr_db, rate) for snr_db, rate in rates.items()]
            if None in rates and (clean_x, CLEAN_NAME) not in ticks:
                ticks.append((clean_x, CLEAN_NAME))
        _draw_line(panel, sorted(points, key=lambda point: point[0]), title, colour, marker)
    panel.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    panel.set_xlabel("signal-to-noise ratio, dB" if snrs_db else "")
    panel.set_title(noise or CLEAN_NAME, fontsize=10, parse_math=False)
    panel.grid(True, color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_line(panel: Axes, points: Sequence[tuple[float, Rate]], title: str, colour: str, marker: str) -> None:
    x = np.array([at for at, _ in points])
    value, low, high = (
        100 * np.array([getattr(rate, name) for _, rate in points]) for name in ("value", "low", "high")
    )
    if len(points) == 1:
        panel.errorbar(
            x, value, np.stack([value - low, high - value]), fmt=marker, color=colour, capsize=3, label=title
        )
        return
    style = "-" if marker else "--"
    panel.plot(x, value, style, marker=marker, markersize=4.5, color=colour, linewidth=1.6, label=title)
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
