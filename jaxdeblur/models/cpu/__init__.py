"""Convolution algorithms that are faster than XLA's on CPUs, equal to XLA's up to rounding."""
