"""Runs' records to a report: one HTML file that opens offline, and its numbers as Markdown, CSV and JSON.

No number is made here: `records` reads and checks them, `collect` adds the intervals and pairs of `statistics.py`, the
other modules show them. No jax is imported. PSNR is in dB, images are uint8 RGB.
"""

from jaxdeblur.report.compare import compare_runs
from jaxdeblur.report.render import write_report

__all__ = ["compare_runs", "write_report"]
