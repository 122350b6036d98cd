"""Ranges of random values: (smallest, largest), drawn uniformly or log-uniformly."""

import math

from jaxdeblur.errors import InputError

Range = tuple[float, float]


def check_range(name: str, values: Range, least: float, most: float) -> None:
    """Require a range between `least` and `most`.

    Raises:
        InputError: it is not (code "range-out-of-range").
    """
    if not least <= values[0] <= values[1] <= most:
        raise InputError(
            f"{name}: {values[0]:g} {values[1]:g}, expected the smallest and the largest value, between {least:g} and "
            f"{most:g}.",
            code="range-out-of-range",
        )


def check_log_range(name: str, values: Range) -> None:
    """Require a range to draw from log-uniformly: above 0, or a single value of at least 0.

    Raises:
        InputError: it is not (code "range-out-of-range").
    """
    least, most = values
    if not 0 <= least <= most < math.inf or least == 0 < most:
        expected = "the smallest and the largest value, above 0, or one value of at least 0"
        raise InputError(f"{name}: {least:g} {most:g}, expected {expected}.", code="range-out-of-range")


def check_share(name: str, value: float) -> None:
    """Require a value in [0, 1].

    Raises:
        InputError: it is not (code "share-out-of-range").
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name}: {value:g}, expected 0 to 1.", code="share-out-of-range")


def log_uniform(values: Range, draw: float) -> float:
    """Map `draw`, uniform in [0, 1), to a log-uniform value of a range."""
    least, most = values
    return least if least == most else least * (most / least) ** draw
