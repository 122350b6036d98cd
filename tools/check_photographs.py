"""Check a folder of sharp photos; the same as `jaxdeblur check-photos`."""

from jaxdeblur.synthesis.check_photos import main

if __name__ == "__main__":
    main(prog="python tools/check_photographs.py")
