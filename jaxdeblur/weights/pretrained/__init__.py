"""Trained networks that ship with the package: one `NAME@VERSION.safetensors` each, listed in `catalogue`."""
