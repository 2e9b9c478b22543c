"""Conditions: what was asked for, each once, and no noise out of nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.evaluate.conditions import CLEAN, Condition, grid, parse_snrs


@given(st.lists(st.none() | st.integers(-60, 60).map(float), min_size=1))
def test_what_is_written_as_ratios_is_read_back_each_once(snrs_db: list[float | None]) -> None:
    written = ", ".join("clean" if snr_db is None else f"{snr_db:g}" for snr_db in snrs_db)
    assert parse_snrs(written) == list(dict.fromkeys(snrs_db))


@given(st.text())
def test_any_text_is_ratios_or_an_input_error(text: str) -> None:
    try:
        snrs_db = parse_snrs(text)
    except InputError:
        return
    assert all(snr_db is None or abs(snr_db) <= 60 for snr_db in snrs_db)


@pytest.mark.parametrize("text", ["", "loud", "1,,2", "nan", "inf", "500", "1;2"])
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="SNR"):
        parse_snrs(text)


def test_every_noise_meets_every_ratio_and_clean_comes_once() -> None:
    conditions = grid(["babble", "rain"], [0.0, None, -5.0])
    assert conditions == [
        CLEAN,
        Condition("babble", 0.0),
        Condition("babble", -5.0),
        Condition("rain", 0.0),
        Condition("rain", -5.0),
    ]
    assert [str(condition) for condition in conditions[:2]] == ["clean", "babble 0 dB"]


@pytest.mark.parametrize(("noises", "snrs_db"), [([], [None, 0.0]), (["rain"], [None])])
def test_ratios_without_noise_and_noise_without_ratios_are_refused(
    noises: list[str], snrs_db: list[float | None]
) -> None:
    with pytest.raises(InputError):
        grid(noises, snrs_db)
