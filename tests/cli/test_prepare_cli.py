"""``avsr prepare``: its messages and exit codes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import avsr as package
from avsr import cli
from avsr.train.packs import prepare, workers

SOUND = Path(package.__file__).parent / "talker" / "demo" / "babble.ogg"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound, and a file that is none."""
    monkeypatch.setattr(workers, "open_executor", ThreadPoolExecutor)
    (tmp_path / "a.ogg").symlink_to(SOUND)
    (tmp_path / "b.ogg").write_text("no sound")
    path = tmp_path / "t.tsv"
    path.write_text("path\tspeaker\tsplit\tseconds\ttext\twords\na.ogg\ts\ttrain\t8\thi\t\nb.ogg\ts\tdev\t8\thi\t\n")
    return path


def avsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["avsr", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


def test_a_corpus_is_prepared_and_what_failed_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    assert avsr(monkeypatch, "prepare", table, "-o", pack, "--jobs", 1, "--quiet") == 1
    out, err = capsys.readouterr()
    assert out == f"{pack}: 1 of 2 files are ready\n{pack / 'failed.tsv'}: why 1 failed\n"
    assert err == ""
    assert avsr(monkeypatch, "prepare", "--check", pack) == 0
    out, _ = capsys.readouterr()
    for told in ("split", "speakers", "median s", "train"):
        assert told in out  # whole, though no terminal says how wide it is
    assert "b.ogg: not in the pack:" in out
    (tmp_path / "b.ogg").unlink()
    (tmp_path / "b.ogg").symlink_to(SOUND)
    assert avsr(monkeypatch, "prepare", table, "-o", pack, "--check", "-q") == 0
    assert "not in the pack" not in capsys.readouterr().out


def test_clips_that_drop_out_of_the_pack_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    head, row, _ = table.read_text().splitlines()
    (tmp_path / "c.ogg").symlink_to(SOUND)
    table.write_text(f"{head}\n{row}\n{row.replace('a.ogg', 'c.ogg')}\n")
    assert avsr(monkeypatch, "prepare", table, "-o", tmp_path / "pack", "-j", 1, "-q") == 0
    assert "no longer" not in capsys.readouterr().out
    table.write_text(f"{head}\n{row}\n")
    assert avsr(monkeypatch, "prepare", table, "-o", tmp_path / "pack", "-j", 1) == 0
    out, err = capsys.readouterr()
    assert f"1 clips that {table} does not list are no longer in the pack" in out
    assert err == ""  # no terminal, no bar


def test_ctrl_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "encode", stop)
    assert avsr(monkeypatch, "prepare", table, "-o", tmp_path / "pack", "-j", 1, "-q") == 130
    says = f"avsr: interrupted. Progress is kept in {tmp_path / 'pack'}; run the same command again to resume.\n"
    assert capsys.readouterr().err == says


def test_times_of_words_that_cannot_be_used_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    head, row, _ = table.read_text().splitlines()
    table.write_text(f"{head}\n{row}hi:400-600\n")
    pack = tmp_path / "pack"
    says = f"{pack}: the word times of 1 clips are not used (first: a.ogg)"
    for arguments in ([table, "-o", pack, "-q"], [table, "-o", pack, "-q"], ["--check", pack]):
        assert avsr(monkeypatch, "prepare", *arguments) == 0
        assert says in capsys.readouterr().out
    table.write_text(f"{head}\n{row}hi:0.4-0.6\n")
    assert avsr(monkeypatch, "prepare", table, "-o", pack, "-q") == 0
    assert says not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["t.tsv"], "add -o PACK"),
        (["none.tsv", "-o", "pack"], "none.tsv"),
        (["--check", "none"], "not a pack"),
        (["--align", "none"], "not a pack"),
        (["t.tsv", "-o", "t.tsv"], "choose another directory"),
        (["t.tsv", "-o", "pack", "--jobs", "0"], "--jobs"),
        ([], "SOURCE"),
    ],
)
def test_wrong_use_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(table.parent)
    assert avsr(monkeypatch, "prepare", *arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_words_are_found_and_what_is_not_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pocketsphinx")
    table.write_text(table.read_text().replace("\thi\t", "\thi zorkblat\t"))
    assert avsr(monkeypatch, "prepare", table, "-o", tmp_path / "pack", "--align", "-q") == 1
    out, _ = capsys.readouterr()
    assert "found the word times of 0 clips, not of 1" in out
    assert "a.ogg: a word is not in the dictionary" in out
    assert avsr(monkeypatch, "prepare", tmp_path / "pack", "--align", "-q") == 0


@pytest.mark.parametrize(("module", "extra"), [("pocketsphinx", "avsr[bench]"), ("soundfile", "avsr[train]")])
def test_a_missing_extra_is_reported_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: Path,
    tmp_path: Path,
    module: str,
    extra: str,
) -> None:
    if module != "pocketsphinx":
        pytest.importorskip("pocketsphinx")
    monkeypatch.setitem(sys.modules, module, None)
    assert avsr(monkeypatch, "prepare", table, "-o", tmp_path / "pack", "--align", "-q") == 2
    assert extra in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()
