"""Ranges that values are drawn from: a smallest and a largest value, evenly or log-uniformly between them."""

import math

from jaxdeblur.errors import InputError

Range = tuple[float, float]


def check_range(name: str, values: Range, least: float, most: float) -> None:
    """Raise InputError unless `values` is a smallest and a largest value between `least` and `most`."""
    if not least <= values[0] <= values[1] <= most:
        found = f"{values[0]:g} {values[1]:g}"
        expected = f"the smallest value and the largest, between {least:g} and {most:g}"
        raise InputError(f"{name}: {found}, expected {expected}.", code="range-out-of-range")


def check_log_range(name: str, values: Range) -> None:
    """Raise InputError unless values can be drawn log-uniformly from a range: above 0, or a single value from 0 up."""
    least, most = values
    if not 0 <= least <= most < math.inf or least == 0 < most:
        expected = "the smallest value and the largest, above 0, or one value from 0 up"
        raise InputError(f"{name}: {least:g} {most:g}, expected {expected}.", code="range-out-of-range")


def check_share(name: str, value: float) -> None:
    """Raise InputError unless a value is in [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"{name}: {value:g}, expected 0 to 1.", code="share-out-of-range")


def log_uniform(values: Range, draw: float) -> float:
    """Return the value of a range at `draw`, in [0, 1), on a logarithmic scale."""
    least, most = values
    return least if least == most else least * (most / least) ** draw
