"""``avsr models``: what can be given to --model."""

from __future__ import annotations

from avsr.cli.output import table_console


def run() -> None:
    """List installed models; damaged ones with the reason."""
    from rich.table import Table
    from rich.text import Text

    from avsr.bundle import BUNDLED_MODELS, Listing, list_bundles, user_models

    def row(listing: Listing) -> tuple[Text, ...]:
        bundle = listing.bundle
        if bundle is None:
            cells = (listing.name, "-", "-", str(listing.path), f"refused: {listing.problem}")
        else:
            about = next((line.lstrip("# ") for line in bundle.card.splitlines() if line.strip("# ")), "")
            size = f"{bundle.num_bytes / 1e6:.1f} MB"
            cells = (listing.name, bundle.config.version, size, str(listing.path), about)
        # Text, not markup: a card is somebody else's writing.
        return tuple(Text(cell, style="" if bundle else "red") for cell in cells)

    console = table_console()
    listings = list_bundles()
    if not listings:
        console.print(f"no models in {BUNDLED_MODELS} nor {user_models()}", markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "version", "size", "path", "about"):
        table.add_column(title, overflow="fold")
    for listing in listings:
        table.add_row(*row(listing))
    console.print(table)
