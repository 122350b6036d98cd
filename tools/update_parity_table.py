"""Write the table that the parity tests print to docs/parity.md: `make parity-table`."""

import argparse
import subprocess
import sys
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "parity.md"
START, END = "<!-- parity table, made by `make parity-table` -->\n", "<!-- end of the table -->"


def main() -> None:
    """Run the parity tests; write their table only if all pass."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for module in ("pytest", "torch"):
        require(module, "The parity table")
    command = [sys.executable, "-m", "pytest", "-m", "parity", "-q"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    table = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    if result.returncode or not table:
        sys.exit(result.stdout + result.stderr + "error: the parity tests failed; docs/parity.md is unchanged.")
    before, rest = PAGE.read_text().split(START)
    _, after = rest.split(END)
    PAGE.write_text(before + START + "\n".join(table) + "\n" + END + after)
    print("\n".join(table))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
