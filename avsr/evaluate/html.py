"""The report as one page that needs nothing beside it: figure, tables, and how it was measured."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from avsr.evaluate.scores import Score, Timing
from avsr.evaluate.tables import Table, error_table, speaker_table, speed_table, wer_tables

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
figure { margin: 1rem 0; } img { max-width: 100%; background: white; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid #888; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; color: #777; }
"""


def render_html(
    about: Mapping[str, Any],
    titles: Mapping[str, str],
    scores: Sequence[Score],
    speakers: Sequence[Score],
    timings: Sequence[Timing],
    rtf_rule: str,
    figure_png: bytes,
) -> str:
    """Return the page. Everything that came from files is escaped."""
    image = base64.b64encode(figure_png).decode()
    tables = [
        *wer_tables(scores, titles),
        speaker_table(speakers, titles),
        error_table(scores, titles),
        speed_table(scores, timings, titles),
    ]
    alt = "Word error rate against signal-to-noise ratio; the tables below have the figures."
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>avsr bench: {escape(str(about['manifest']))}</title><style>{STYLE}</style></head><body>",
            f"<h1>Word error rates under noise: {escape(str(about['manifest']))}</h1>",
            f"<p>{about['num_clips']} clips{_of_split(about)}, {len(titles)} systems.</p>",
            f'<figure><img src="data:image/png;base64,{image}" alt="{alt}"></figure>',
            *(_table(table) for table in tables),
            "<h2>how it was measured</h2><dl>",
            *(f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{_value(value)}</dd>" for name, value in about.items()),
            f"<dt>real-time factor</dt><dd>{escape(rtf_rule)}</dd></dl>",
            f"<footer>Made by avsr {escape(str(about['avsr']))}.</footer></body></html>",
            "",
        ]
    )


def _of_split(about: Mapping[str, Any]) -> str:
    return f" of the split {escape(about['split'])}" if about["split"] is not None else ""


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.heads)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _value(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
