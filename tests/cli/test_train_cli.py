"""``avsr train``: what it passes on, how it ends, and its table."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from avsr.cli import app
from avsr.cli import main as avsr_main
from avsr.cli.training_table import TrainingTable
from avsr.train import run as train_run
from avsr.train.machine import Machine
from avsr.train.tracking import StageNote, StageProgress

assert app
PROGRESS = StageProgress("fusion", 3, 9, 3, 7, 1.25, 4e-4, 17.5, 3723.0, {"fused_wer": 0.25, "dev_seen_wer": 0.125})


def avsr(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["avsr", *arguments])
    with pytest.raises(SystemExit) as ended:
        avsr_main()
    return int(ended.value.code or 0)


def test_a_run_that_is_stopped_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def stop(*_: object, **settings: object) -> None:
        assert isinstance(settings["machine"], Machine)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_run, "run_recipe", stop)
    assert avsr(monkeypatch, "train", str(tmp_path), "--work", str(tmp_path / "w"), "--device", "cpu") == 130
    assert f"Progress is kept in {tmp_path / 'w'}; run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipe", "nowhere.yaml"],
            "nowhere.yaml: no such file or built-in recipe; built in are adapt, default, finetune",
        ),
        (["--from", "nobody"], "nobody: no such model"),
        (["--device", "tpu"], "tpu"),
        (["-o", "file/bundle"], "file: cannot be written to"),
        ([], "holds neither a pack 'corpus' nor the table"),
    ],
)
def test_what_cannot_be_trained_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert avsr(monkeypatch, "train", str(tmp_path), *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_table_in_place_of_a_directory_is_not_advised_to_hold_a_pack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.tsv").touch()
    assert avsr(monkeypatch, "train", "mine.tsv") == 2
    assert "mine.tsv: is a file; give a directory" in capsys.readouterr().err


def test_the_table_shows_each_stage_under_way() -> None:
    table = TrainingTable()
    table._stages["fusion"] = PROGRESS
    console = Console(width=120, file=io.StringIO())
    with console.capture() as shown:
        console.print(table._table())
    row = next(line for line in shown.get().splitlines() if "fusion" in line)
    cells = [cell.strip() for cell in re.split("[│┃]", row)][1:-1]
    assert cells == ["fusion", "3/9", "3/7", "1.250", "4.0e-04", "17.5", "fused 25.0 %  dev_seen 12.5 %", "1:02:03"]


def test_without_a_terminal_only_what_happens_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingTable() as table:
        table.show(PROGRESS)
        table.show(StageNote("fusion", "epoch 3  loss 1.25"))
    captured = capsys.readouterr()
    assert captured.err == "fusion: epoch 3  loss 1.25\n"
    assert captured.out == ""
