"""Report the results of runs, or compare two runs.

    python tools/make_report.py runs/transformnet runs/resnetencdec --output report
    python tools/make_report.py --compare runs/transformnet runs/resnetencdec

The first writes report.html (a single file that opens offline), report.md, report.csv and report.json; the second
prints in one line which of two runs is better, by how much, and whether the difference is significant.
"""

import argparse
import sys
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.files import printable
from jaxdeblur.report import compare_runs, write_report


def main() -> None:
    """Write the report of runs, or compare two runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="folder of a run or of evaluated weights")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder to write the report to")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="compare two runs; writes no files")
    parser.add_argument(
        "--protocol", default="", metavar="SPLIT-RESOLUTION", help="what to compare by, such as test-256"
    )
    arguments = parser.parse_args()
    if arguments.compare and (arguments.runs or arguments.output):
        parser.error("--compare takes two runs and can only be combined with --protocol")
    if not arguments.compare and not (arguments.runs and arguments.output):
        parser.error("give the runs and --output FOLDER, or --compare A B")
    if arguments.protocol and not arguments.compare:
        parser.error("--protocol requires --compare; a report has all protocols")
    try:
        if arguments.compare:
            print(printable(compare_runs(arguments.compare, arguments.protocol)))
        else:
            print(printable(str(write_report(arguments.runs, arguments.output))))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
