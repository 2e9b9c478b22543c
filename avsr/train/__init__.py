"""`avsr train`: a recipe, stage by stage, from packs of clips to a bundle."""
