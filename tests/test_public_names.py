"""What a user imports is found, though it is loaded when it is first used."""

from __future__ import annotations

import avsr


def test_every_public_name_is_listed_and_there() -> None:
    assert set(avsr.__all__) <= set(dir(avsr))
    assert all(hasattr(avsr, name) for name in dir(avsr))
