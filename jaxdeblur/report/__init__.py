"""Reports of runs: one HTML file that opens offline, and its numbers as Markdown, CSV and JSON.

`loading` reads and checks the records, `grouping` pairs runs and adds confidence intervals, and the other modules
present the numbers. JAX is not imported. PSNR is in dB; images are uint8 RGB.
"""

from jaxdeblur.report.compare import compare_runs
from jaxdeblur.report.render import write_report

__all__ = ["compare_runs", "write_report"]
