"""Checks of single config values. A check returns what was expected, or None if the value is valid."""

import math
from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[[Any], str | None]


def number(kind: type, minimum: float, below: float = math.inf) -> Check:
    """Return a check for an int or a float in [minimum, below)."""
    allowed = (int, float) if kind is float else (int,)
    name = "an integer" if kind is int else "a number"
    limit = f" and below {below}" if below < math.inf else ""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, allowed) or not minimum <= value < below:
            return f"expected {name} of at least {minimum}{limit}"
        return None

    return check


def size(minimum: int) -> Check:
    """Return a check for a size in pixels: 0 to switch it off, or at least `minimum`."""

    def check(value: Any) -> str | None:
        return None if value == 0 and not isinstance(value, bool) else number(int, minimum)(value)

    return check


def one_of(names: Callable[[], Iterable[str]]) -> Check:
    """Return a check for one of some names.

    The names are looked up when a value is checked: a recipe can then be read without importing JAX.
    """

    def check(value: Any) -> str | None:
        known = tuple(names())
        return None if value in known else f"expected one of {', '.join(known)}"

    return check


def boolean(value: Any) -> str | None:
    """Check for True or False."""
    return None if isinstance(value, bool) else "expected True or False"


def text(description: str) -> Check:
    """Return a check for a string."""
    return lambda value: None if isinstance(value, str) else f"expected {description}"


def names(value: Any) -> str | None:
    """Check for a tuple of strings."""
    valid = isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value)
    return None if valid else "expected a tuple of names"


def integers(shortest: int, longest: int, minimum: int, description: str) -> Check:
    """Return a check for a tuple of `shortest` to `longest` integers of at least `minimum`."""

    def check(value: Any) -> str | None:
        valid = isinstance(value, (tuple, list)) and shortest <= len(value) <= longest
        valid = valid and not any(number(int, minimum)(item) for item in value)
        return None if valid else f"expected a tuple of {description} of at least {minimum}"

    return check


def increasing_integers(value: Any) -> str | None:
    """Check for a tuple of increasing integers of at least 1."""
    items = list(value) if isinstance(value, (tuple, list)) else []
    if items and not any(number(int, 1)(item) for item in items) and items == sorted(set(items)):
        return None
    return "expected a tuple of increasing integers of at least 1, as (500, 750)"


def factor_range(value: Any) -> str | None:
    """Check for a range of factors: (smallest, largest), both above 0."""
    items = value if isinstance(value, (tuple, list)) else ()
    valid = [isinstance(item, (int, float)) and not isinstance(item, bool) for item in items]
    if len(items) == 2 and all(valid) and 0 < items[0] <= items[1] < math.inf:
        return None
    return "expected a tuple of two numbers above 0, the smallest factor and the largest, as (1.0, 2.0)"


def share(value: Any) -> str | None:
    """Check for a share of a batch, strictly between 0 and 1."""
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
    return None if valid else "expected a number above 0 and below 1"


def protocols(value: Any) -> str | None:
    """Check for evaluation protocols: `full`, or the size that frames are resized to."""
    items = value if isinstance(value, (tuple, list)) else ()
    valid = [item == "full" or (isinstance(item, str) and item.isdecimal() and int(item) >= 16) for item in items]
    if items and all(valid) and len({*items}) == len(items):
        return None
    return "expected a tuple of unique names: 'full', or the size to resize to, at least 16, as '256'"
