"""One option has one spelling and one explanation, whichever verb has it."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from avsr.cli import app
from avsr.cli.options import MAX_THREADS

VERBS: Any = typer.main.get_command(app)
OTHERS = {"bench": {"--chunk-ms", "--modality"}, "train": {"--device"}}
"""Options that take something else there: lists, and more kinds of machines."""


@pytest.mark.parametrize("verb", ["live", "serve", "demo", "transcribe"])
def test_no_machine_is_brought_to_a_halt_by_threads(verb: str) -> None:
    done = CliRunner().invoke(app, [verb, "--threads", "100000"])
    assert done.exit_code == 2
    assert "--threads" in done.output
    assert str(MAX_THREADS) in done.output


@pytest.mark.parametrize("name", ["--model", "--lm", "--modality", "--chunk-ms", "--device", "--threads"])
def test_an_option_is_the_same_in_every_verb(name: str) -> None:
    found = [
        (option.help, option.metavar, option.default)
        for verb, command in VERBS.commands.items()
        for option in command.params
        if name in option.opts and name not in OTHERS.get(verb, set())
    ]
    assert len(found) >= 3
    assert all(each == found[0] for each in found)
