"""The one exception that means: the user can mend this."""

from collections.abc import Callable
from typing import Any


class InputError(Exception):
    """A mistake in the input: a path, a file, a config field, a full disk.

    The message names the file or field, what was found, what was expected and what to do. The command lines print
    it without a traceback and exit with status 1.
    """


def list_problems(heading: str, problems: list[str], remedy: str, shown: int | None = 20) -> str:
    """Return one message for many problems: a heading, the first `shown` of them (None: all), and the remedy."""
    lines = [heading, *(f"  - {problem}" for problem in problems[:shown])]
    if shown is not None and len(problems) > shown:
        lines.append(f"  ... and {len(problems) - shown} more")
    lines.append(remedy)
    return "\n".join(lines)


def raise_together(*checks: Callable[[], Any]) -> list[Any]:
    """Run all checks and return what they return.

    Raises:
        InputError: with the messages of all checks that failed.
    """
    results, messages = [], []
    for check in checks:
        try:
            results.append(check())
        except InputError as error:
            messages.append(str(error))
    if messages:
        raise InputError("\n".join(dict.fromkeys(messages)))
    return results
