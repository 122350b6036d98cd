"""Report the results of runs, or compare two runs.

    jaxdeblur report runs/transformnet runs/resnetencdec --output report
    jaxdeblur report --compare runs/transformnet runs/resnetencdec

The first writes report.html (a single file that opens offline), report.md, report.csv and report.json; the second
prints in one line which of two runs is better, by how much, and whether the difference is significant.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.files import printable
from jaxdeblur.report import compare_runs, write_report


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="folder of a run or of evaluated weights")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder to write the report to")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="compare two runs; writes no files")
    parser.add_argument(
        "--protocol", default="", metavar="SPLIT-RESOLUTION", help="what to compare by, such as test-256"
    )
    return parser


def main(arguments: Sequence[str] | None = None, *, prog: str) -> None:
    """Write the report of runs, or compare two runs; exit with a message on user errors."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    if options.compare and (options.runs or options.output):
        parser.error("--compare takes two runs and can only be combined with --protocol")
    if not options.compare and not (options.runs and options.output):
        parser.error("give the runs and --output FOLDER, or --compare A B")
    if options.protocol and not options.compare:
        parser.error("--protocol requires --compare; a report has all protocols")
    try:
        if options.compare:
            print(printable(compare_runs(options.compare, options.protocol)))
        else:
            print(printable(str(write_report(options.runs, options.output))))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
