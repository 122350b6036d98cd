"""Names of files and folders: how long they may be, and what becomes of bytes that are no UTF-8.

Python reads such bytes as lone surrogates, which no text file and no JSON of other programs can hold.
"""

import os
from pathlib import Path

from jaxdeblur.errors import InputError

NAME_BYTES = 255  # of the longest name on Linux and macOS


def printable(name: str) -> str:
    r"""Return a name as text that can be written everywhere: bytes that are no UTF-8 as \xff."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def require_utf8(folder: Path, option: str) -> None:
    """Refuse a folder whose path is no UTF-8.

    Raises:
        InputError: names it (code "name-not-utf8").
    """
    path = str(folder.absolute())
    if printable(path) != path:
        raise InputError(
            f"{option} {printable(path)}: its path is no UTF-8, and checkpoints cannot be kept there. Choose a folder "
            "with another name.",
            code="name-not-utf8",
        )


def shortened(stem: str, ending: str) -> str:
    """Return a file's name of `stem` and `ending`, whose stem is cut where the name would be too long."""
    encoded = os.fsencode(stem)
    room = NAME_BYTES - len(os.fsencode(ending))
    # A character that is cut in two is dropped.
    return (stem if len(encoded) <= room else encoded[:room].decode(errors="ignore")) + ending
