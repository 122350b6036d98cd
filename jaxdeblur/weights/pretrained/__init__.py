"""Trained networks that ship with the package: `NAME@VERSION.safetensors` files, listed in `catalogue`."""
