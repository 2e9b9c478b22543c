"""``avsr train``: a recipe and corpora to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe that comes with avsr (default), or a YAML file.")
    ] = "default",
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="The corpora: the recipe's table, speech.tsv and noise.tsv.")
    ] = Path("../shared/data"),
    work: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Keeps prepared corpora and checkpoints; a killed run goes on from them."),
    ] = Path("runs/default"),
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the finished bundle goes.")
    ] = Path("runs/default/bundle"),
) -> None:
    """Train a model: prepare the clips, teach each sense alone, then both together under noise."""
    from avsr.config import load_config
    from avsr.train.recipe import RECIPES, RecipeConfig
    from avsr.train.run import run_recipe

    shipped = RECIPES / f"{recipe}.yaml"
    settings = load_config(shipped if shipped.exists() else Path(recipe), RecipeConfig)
    run_recipe(settings, data, work, output)
    print(f"{output}: done. Try it: avsr transcribe --model {output} FILE")
