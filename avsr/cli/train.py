"""``avsr train``: a recipe and corpora to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from avsr.cli.interrupt import INTERRUPTED
from avsr.cli.output import note


def run(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Directory of the clip tables: the recipe's (columns: path speaker split seconds text words; splits: "
            "train and dev), speech.tsv and noise.tsv. Packs in it replace tables: corpus (from `avsr prepare`), "
            "speech, noise, talkers and voices (from an earlier --work).",
        ),
    ],
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="Built-in recipe or YAML file.")] = "default",
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for packs and checkpoints. [runs/RECIPE]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Start from this model (name or directory), not from scratch."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Bundle to write. [WORK/bundle]")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU if there is one.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Data-loading processes. [GPU: all CPUs but one; else 0]"),
    ] = None,
) -> None:
    """Train a model: audio and lips alone, then both in noise.

    Clips are prepared first. Recipes: default (from scratch), finetune (continues --from a model on the same corpora),
    adapt (continues --from a model on your clips alone). Run the same command again to resume. With several GPUs:

    torchrun --standalone --nproc-per-node N --max-restarts 3 -m avsr train DATA
    """
    from avsr.bundle import load_bundle
    from avsr.cli.training_table import TrainingTable
    from avsr.config import load_config
    from avsr.disk import prepare_directory
    from avsr.errors import InputError
    from avsr.train.machine import open_machine
    from avsr.train.recipe import RECIPES, RecipeConfig
    from avsr.train.run import run_recipe

    shipped = RECIPES / f"{recipe}.yaml"
    recipe_file = shipped if shipped.exists() else Path(recipe)
    if not recipe_file.exists():
        names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise InputError(f"--recipe {recipe}: no such file or built-in recipe; built in are {names}")
    settings = load_config(recipe_file, RecipeConfig)
    work = work or Path("runs") / Path(recipe).stem
    if output:
        prepare_directory(output.parent)  # better now than after hours of training
    output = output or work / "bundle"
    begin_from = load_bundle(start) if start else None
    try:
        with open_machine(device, workers) as machine, TrainingTable() as table:
            run_recipe(settings, data, work, output, start=begin_from, machine=machine, on_report=table.show)
            is_first = machine.processes.is_first
    except KeyboardInterrupt:
        note(f"interrupted. Progress is kept in {work}; run the same command again to resume.")
        raise typer.Exit(INTERRUPTED) from None
    if is_first:
        print(f"{output}: done. Try it: avsr transcribe --model {output} FILE")
