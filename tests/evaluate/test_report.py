"""The report: the same bytes every time, the same figures in every file, and a page that stands alone."""

from __future__ import annotations

import csv
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from fake_systems import FakeSystem, corpus, plan_of

from avsr.errors import InputError, MissingExtraError
from avsr.evaluate import plots
from avsr.evaluate.bench import Plan, run
from avsr.evaluate.conditions import CLEAN, Condition
from avsr.evaluate.journal import Journal
from avsr.evaluate.noises import NoiseKind, NoiseLibrary
from avsr.evaluate.report import Report, make_report, write_report
from avsr.evaluate.tables import speaker_table, wer_tables

TIMED = {"timings.json", "report.html"}


def bench(babble: Path, output: Path, work_s: float = 0.5, conditions: list[Condition] | None = None) -> Report:
    plan = plan_of(
        corpus(output, babble), FakeSystem("<ears>"), FakeSystem("lips", uses_sound=False), conditions=conditions
    )
    (output / "out").mkdir()
    with Journal(output / "out", {}) as journal:
        left_out = run(plan, journal)
        journal.results.update({key: replace(r, work_s=work_s) for key, r in journal.results.items()})
        report = make_report(
            plan, journal, left_out, "basic", manifest="<b>&.tsv", split="test", limit=None, settings={"seed": 0}
        )
    write_report(report, output / "out")
    return report


@pytest.fixture(scope="module")
def written(babble: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """A report, and where it is written."""
    directory = tmp_path_factory.mktemp("report")
    return bench(babble, directory), directory / "out"


@pytest.fixture
def report(written: tuple[Report, Path]) -> Report:
    return written[0]


@pytest.fixture
def out(written: tuple[Report, Path]) -> Path:
    return written[1]


def test_two_runs_are_the_same_byte_for_byte_but_for_their_times(out: Path, babble: Path, tmp_path: Path) -> None:
    bench(babble, tmp_path, work_s=1.5)
    names = {path.name for path in out.iterdir()}
    assert names >= {"results.json", "results.csv", "speakers.csv", "conditions.tsv", "hypotheses.tsv", "wer.png"}
    differ = {name for name in names if (out / name).read_bytes() != (tmp_path / "out" / name).read_bytes()}
    assert differ <= TIMED
    assert "timings.json" in differ


def test_all_files_agree(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    assert results["num_clips"] == 3
    assert "basic" in results["text_normalisation"]
    cells = {(cell["system"], cell["snr_db"]): cell for cell in results["scores"]}
    assert set(cells) == {("<ears>", None), ("<ears>", 0.0), ("<ears>", -5.0), ("lips", None)}
    assert (cells["<ears>", 0.0]["wer"], cells["<ears>", 0.0]["deletions"]) == (pytest.approx(2 / 6, abs=1e-6), 6)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["system"], float(row["wer"])) for row in rows] == [
        (cell["system"], cell["wer"]) for cell in results["scores"]
    ]
    with (out / "speakers.csv").open() as file:
        assert {row["speaker"] for row in csv.DictReader(file)} == {"s0", "s1"}
    with (out / "conditions.tsv").open() as file:
        mixes = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["clip"], row["snr_db"]) for row in mixes] == [
        (f"{i}.mp4", snr) for i in range(3) for snr in ("0.0", "-5.0")
    ]
    with (out / "hypotheses.tsv").open() as file:
        assert sum(int(row["errors"]) for row in csv.DictReader(file, delimiter="\t")) == 3 * (1 + 2 + 2 + 1)
    timings = json.loads((out / "timings.json").read_text())["timings"]
    assert {timing["rtf"] for timing in timings} == {0.125}
    assert not any("rtf" in key or "compute" in key for cell in results["scores"] for key in cell)


def test_the_page_is_self_contained_and_escapes_file_names(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "data:image/png;base64," in page
    assert "<b>&.tsv" not in page and "&lt;b&gt;&amp;.tsv" in page
    assert "<ears>" not in page
    for stated in ("bootstrap", "case folded", "active speech", "Real-time factor"):
        assert stated in page


def test_tables_say_ditto_where_noise_changes_nothing(report: Report) -> None:
    (table,) = wer_tables(report.scores, report.titles)
    assert table.heads == ("", "clean", "0 dB", "-5 dB")
    assert table.rows[0][1:] == ("16.7 (16.7-16.7)", "33.3 (33.3-33.3)", "33.3 (33.3-33.3)")
    assert table.rows[1][2:] == ('"', '"')
    assert table.rows[2] == ("audio weight: the <ears> one", "0.75", "0.75", "0.75")
    assert len(speaker_table(report.speakers, report.titles).rows) == 4


def test_tables_say_nothing_of_what_was_not_measured(babble: Path, tmp_path: Path) -> None:
    report = bench(babble, tmp_path, conditions=[Condition("white", 0.0)])
    is_drawn(tmp_path / "out")
    (table,) = wer_tables(report.scores, report.titles)
    assert table.heads == ("", "clean", "0 dB")
    assert (table.rows[0][1], table.rows[1][2]) == ("-", '"')
    assert [(row[1], row[2]) for row in speaker_table(report.speakers, report.titles).rows[::2]] == [
        ("-", "33.3 (33.3-33.3)")
    ] * 2


def test_clean_sound_alone_can_be_drawn_too(babble: Path, tmp_path: Path) -> None:
    bench(babble, tmp_path, conditions=[CLEAN])
    is_drawn(tmp_path / "out")


def is_drawn(directory: Path) -> None:
    assert (directory / "wer.png").read_bytes().startswith(b"\x89PNG")
    assert (directory / "wer.pdf").read_bytes().startswith(b"%PDF")


def test_no_name_of_a_file_keeps_the_report_from_being_written(babble: Path, tmp_path: Path) -> None:
    clips = {f"\udcff{name}": utterance for name, utterance in corpus(tmp_path, babble).items()}
    noises = NoiseLibrary([NoiseKind("a$^{$b", (("rain\udcff.ogg", babble),))], seed=0)
    plan = Plan(clips, [FakeSystem("$^{$")], [CLEAN, Condition("a$^{$b", 0.0)], noises)
    with Journal(tmp_path, {}) as journal:
        left_out = run(plan, journal)
        report = make_report(
            plan, journal, left_out, "basic", manifest="t\udcff.tsv", split=None, limit=None, settings={}
        )
    for path in write_report(report, tmp_path):
        assert path.suffix in (".png", ".pdf") or path.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "results.json").read_text())["manifest"] == "t?.tsv"
    assert "rain?.ogg@" in (tmp_path / "conditions.tsv").read_text()


def test_a_name_that_the_font_lacks_is_no_reason_to_warn(report: Report) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.plot_wer(report.scores, dict.fromkeys(report.titles, "\u96e8"), "")
        assert plots.as_png(figure) and plots.as_pdf(figure)


def test_a_full_directory_is_one_error(report: Report, tmp_path: Path) -> None:
    (tmp_path / "other" / "results.json").mkdir(parents=True)
    with pytest.raises(InputError, match="choose another -o"):
        write_report(report, tmp_path / "other")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"avsr\[bench\]"):
        plots.require_matplotlib()
