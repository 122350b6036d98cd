"""Histograms of weights and gradients, counted on the device, so that not the values but their counts are fetched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

NUM_BINS = 64


def count(values: jax.Array) -> dict[str, jax.Array]:
    """Return `counts`, (NUM_BINS,) int32, of an array's values in equal bins from `low` to `high`, its extremes.

    Values that are not finite are in no bin.
    """
    values = values.ravel().astype(jnp.float32)
    finite = jnp.isfinite(values)
    low = jnp.min(values, where=finite, initial=jnp.inf)
    high = jnp.max(values, where=finite, initial=-jnp.inf)
    place = jnp.floor((values - low) / jnp.maximum(high - low, jnp.finfo(jnp.float32).tiny) * NUM_BINS)
    bins = jnp.where(finite, jnp.clip(place, 0, NUM_BINS - 1), NUM_BINS).astype(jnp.int32)
    counts = jnp.zeros(NUM_BINS + 1, jnp.int32).at[bins].add(1)[:NUM_BINS]
    return {"counts": counts, "low": low, "high": high}


def count_tree(tree: Any) -> Any:
    """Return the histograms of all leaves of a tree of arrays."""
    return jax.tree.map(count, tree)


def edges(histogram: dict[str, np.ndarray]) -> np.ndarray:
    """Return the upper edges of a histogram's bins, (NUM_BINS,)."""
    return np.linspace(histogram["low"], histogram["high"], NUM_BINS + 1)[1:]
