"""Prepare GOPRO_Large as fast records; the same as `jaxdeblur prepare-gopro`."""

from jaxdeblur.data.gopro.command import main

if __name__ == "__main__":
    main(prog="python tools/prepare_gopro.py")
