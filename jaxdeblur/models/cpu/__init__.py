"""Convolutions in forms that XLA's CPU backend runs fast, equal to the plain ones up to rounding."""
