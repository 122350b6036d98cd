"""Create training pairs with synthetic blur; the same as `jaxdeblur synthesize`."""

from jaxdeblur.synthesis.command import main

if __name__ == "__main__":
    main(prog="python tools/synthesize_blur.py")
