"""Train, judge and use networks that take motion blur out of single photographs, in JAX."""

__version__ = "0.1.0"
