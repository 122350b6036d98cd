"""Run command lines in this process as if the optional packages were missing: `run_without_extras.py CASES BLOCKED`.

Both are JSON: a list of command lines (the file of a script or a module's name, then its arguments), and a list of the
modules that cannot be imported. Prints a JSON list of [exit status, standard output and error]; null is a traceback.
"""

import contextlib
import importlib.abc
import io
import json
import runpy
import sys
import traceback
from pathlib import Path

from absl import app, flags


class Refuse(importlib.abc.MetaPathFinder):
    """Finds no module of `blocked`, as if it were not installed."""

    def __init__(self, blocked):
        self._blocked = frozenset(blocked)

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self._blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def run(command):
    """Return the exit status, or None for a traceback, and all that was printed."""
    sys.argv, printed = list(command), io.StringIO()
    known = set(flags.FLAGS)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            if command[0].endswith(".py"):
                sys.path.insert(0, str(Path(command[0]).parent))
                runpy.run_path(command[0], run_name="__main__")
            else:
                runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        except SystemExit as error:
            if isinstance(error.code, str):
                print(error.code)
            status = 1 if isinstance(error.code, str) else error.code or 0
        except BaseException:
            status = None
            traceback.print_exc()
        else:
            status = 0
    flags.FLAGS.remove_flag_values(set(flags.FLAGS) - known)  # so that the next command can define its own
    return status, printed.getvalue()


if __name__ == "__main__":
    app.define_help_flags()  # absl does it once in a process
    commands, blocked_modules = map(json.loads, sys.argv[1:])
    sys.meta_path.insert(0, Refuse(blocked_modules))
    print(json.dumps([run(command) for command in commands]))
