"""Export a trained network; the same as `jaxdeblur export`."""

from jaxdeblur.export.command import main

if __name__ == "__main__":
    main(prog="python tools/export_model.py")
