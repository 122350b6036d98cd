"""Put the table that the parity tests print into the README: `make parity-table`."""

import argparse
import subprocess
import sys
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require

README = Path(__file__).parent.parent / "README.md"
START, END = "<!-- parity table, made by `make parity-table` -->\n", "<!-- end of the table -->"


def main() -> None:
    """Run the parity tests; write their table only if all of them pass."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for module in ("pytest", "torch"):
        require(module, "The table of parity")
    command = [sys.executable, "-m", "pytest", "-m", "parity", "-q"]
    result = subprocess.run(command, cwd=README.parent, capture_output=True, text=True)
    table = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    if result.returncode or not table:
        sys.exit(result.stdout + result.stderr + "error: the parity tests did not pass; the README is as it was.")
    before, rest = README.read_text().split(START)
    _, after = rest.split(END)
    README.write_text(before + START + "\n".join(table) + "\n" + END + after)
    print("\n".join(table))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
