"""InputError: an error caused by user input, printed without a traceback."""

from collections.abc import Callable
from typing import Any


class InputError(Exception):
    """A wrong path, file, config field or option, or a full disk.

    The message names the file or field, what was found, what was expected and what to do. Command lines print it
    without a traceback and exit with status 1.

    Attributes:
        code: short, stable identifier of the error, such as "run-locked", for callers and tests that must not depend
            on the wording; "" where none is assigned.
    """

    def __init__(self, message: str, *, code: str = ""):
        super().__init__(message)
        self.code = code


def list_problems(heading: str, problems: list[str], remedy: str, shown: int | None = 20) -> str:
    """Format many problems as one message: heading, the first `shown` problems (None: all), remedy."""
    lines = [heading, *(f"  - {problem}" for problem in problems[:shown])]
    if shown is not None and len(problems) > shown:
        lines.append(f"  ... and {len(problems) - shown} more")
    lines.append(remedy)
    return "\n".join(lines)


def raise_together(*checks: Callable[[], Any]) -> list[Any]:
    """Run every check and return their results.

    Raises:
        InputError: the messages of all failed checks, with the code of the first.
    """
    results, errors = [], []
    for check in checks:
        try:
            results.append(check())
        except InputError as error:
            errors.append(error)
    if errors:
        raise InputError("\n".join(dict.fromkeys(map(str, errors))), code=errors[0].code)
    return results
