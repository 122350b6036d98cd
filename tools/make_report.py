"""Write the report of a trained run again: `python tools/make_report.py runs/transformnet --output report`."""

import argparse
import sys
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.report import write_report


def main() -> None:
    """Read the run's records and write HTML, Markdown and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a trained run")
    parser.add_argument("--output", type=Path, required=True, help="folder for report.html, report.md, report.json")
    arguments = parser.parse_args()
    try:
        print(write_report(arguments.run, arguments.output))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
