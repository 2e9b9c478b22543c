"""Standard streams that are full, closed, or that nobody reads any more: the work is done all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avsr.cli.output import note_about

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="streams are closed otherwise there"),
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full"),
]

ENGINE = """
import sys, types, avsr.cli, avsr.types
said = avsr.types.Caption(0, 0, True, (avsr.types.Word('bin', 0.0, 1.0, 1.0),), 3, 0.0, 1.0, 0.5, 1.0)
def transcribe(source, *, on_caption, **options):
    on_caption(said)
    return avsr.types.Transcript((said,), 1.0, 'tiny', '0', source=source, warnings=('no face was seen',))
engine = types.ModuleType('avsr.recognizer')
engine.load_model = lambda *_, **__: types.SimpleNamespace(transcribe=transcribe)
sys.modules['avsr.recognizer'] = engine
avsr.cli.main()
"""


def shell(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, in which ``avsr`` has an engine that hears "bin" in everything."""
    (where / "engine.py").write_text(ENGINE)
    line = command.replace("avsr", f"'{sys.executable}' engine.py", 1)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(["bash", "-c", line], cwd=where, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("closed", ["2>/dev/full", ">&-", "<&- >&- 2>&-"])
def test_every_file_is_written_whatever_becomes_of_the_streams(closed: str, tmp_path: Path) -> None:
    done = shell(f"avsr transcribe a.mp4 b.mp4 -o out {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt"]
    assert (tmp_path / "out" / "a.txt").read_text() == "bin\n"


def test_files_are_written_though_nobody_reads_on(tmp_path: Path) -> None:
    done = shell("avsr transcribe a.mp4 b.mp4 c.mp4 -o out | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert (done.returncode, "cannot be written" in done.stderr) == (0, False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt", "c.txt"]


def test_files_are_written_before_a_full_standard_output_is_reported(tmp_path: Path) -> None:
    done = shell("avsr transcribe a.mp4 b.mp4 -o out >/dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("avsr: standard output cannot be written to: No space left")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("verb", ["devices", "--help"])
def test_a_full_standard_output_is_one_message(verb: str, tmp_path: Path) -> None:
    done = shell(f"avsr {verb} >/dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "avsr: standard output cannot be written to: No space left on device; write to another place\n"
    )


def test_wrong_use_exits_2_even_where_standard_error_is_full(tmp_path: Path) -> None:
    assert shell("avsr dance 2>/dev/full", tmp_path).returncode == 2


def test_a_closed_standard_output_is_no_error(tmp_path: Path) -> None:
    done = shell("avsr models >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("nothing", ["<&-", "</dev/null"])
def test_a_closed_or_null_standard_input_is_not_read(nothing: str, tmp_path: Path) -> None:
    done = shell(f"avsr transcribe - {nothing}", tmp_path)
    assert done.returncode == 2
    assert "nothing is piped in" in done.stderr


def test_a_terminal_that_closes_does_not_end_the_work() -> None:
    code = (
        "import signal, sys, avsr.cli.output as output\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "output.open_streams()\n"
        "output.note('ready')\n"
        "sys.stdin.readline()\n"
        "output.note('on'); print('and', end='', flush=True); print('on', 9000 * ' ')\n"
    )
    ours, its = os.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=its, stderr=its) as process:
        os.close(its)
        assert os.read(ours, 100) == b"avsr: ready\r\n"
        os.close(ours)
        process.communicate(b"\n")
    assert process.returncode == 0


def test_a_note_names_its_source_once(capsys: pytest.CaptureFixture[str]) -> None:
    note_about("x.ogg", "no face was seen")
    note_about("x.ogg", "x.ogg: its end is missing")
    assert capsys.readouterr().err == "avsr: x.ogg: no face was seen\navsr: x.ogg: its end is missing\n"
