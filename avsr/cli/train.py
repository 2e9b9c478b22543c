"""``avsr train``: a recipe and corpora to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="The corpora: the recipe's table, speech.tsv and noise.tsv, and their media. Or a --work with packs.",
        ),
    ],
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A recipe that comes with avsr, or a YAML file.")
    ] = "default",
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps packs and checkpoints; a killed run goes on. [runs/RECIPE]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Go on from this model (a name or a directory), not from scratch."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the bundle goes. [WORK/bundle]")
    ] = None,
) -> None:
    """Train a model: prepare the clips, teach each sense alone, then both together under noise."""
    from avsr.bundle import load_bundle
    from avsr.config import load_config
    from avsr.train.recipe import RECIPES, RecipeConfig
    from avsr.train.run import run_recipe

    shipped = RECIPES / f"{recipe}.yaml"
    settings = load_config(shipped if shipped.exists() else Path(recipe), RecipeConfig)
    work = work or Path("runs") / Path(recipe).stem
    output = output or work / "bundle"
    run_recipe(settings, data, work, output, start=load_bundle(start) if start else None)
    print(f"{output}: done. Try it: avsr transcribe --model {output} FILE")
