"""Report the results of runs, or compare two runs; the same as `jaxdeblur report`."""

from jaxdeblur.report.command import main

if __name__ == "__main__":
    main(prog="python tools/make_report.py")
