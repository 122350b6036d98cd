"""Histograms of weights and gradients, computed on the device: only the counts are fetched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdeblur.runs.metric_log import NUM_BINS, Histogram

# Enough for the shape of a histogram; counting all values of a large network would double the memory use.
MOST_VALUES = 1 << 16
_WIDTH = 256  # of the table's rows; the last row of each tensor is padded


@struct.dataclass
class Counts:
    """The histograms of all tensors of a tree, in the order of its leaves.

    Attributes:
        counts: (tensors, NUM_BINS) int32, in equal bins from a tensor's `low` to its `high`.
        low: (tensors,) float32, the smallest finite value.
        high: (tensors,) float32, the largest finite value.
    """

    counts: jax.Array
    low: jax.Array
    high: jax.Array


def count_values(tree: Any) -> Counts:
    """Count the values of every tensor, or a regular subset of about MOST_VALUES of a large one; call it inside jit.

    All tensors are cut into rows of one table, each row from a single tensor: one program for all shapes compiles in a
    tenth of the time that one per shape would take.
    """
    # An odd stride visits all channels, whose number is mostly a power of two.
    leaves = [leaf.ravel()[:: (leaf.size // MOST_VALUES) | 1].astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
    owner = np.repeat(np.arange(len(leaves)), [-(-leaf.size // _WIDTH) for leaf in leaves])
    rows = [jnp.pad(leaf, (0, -leaf.size % _WIDTH), constant_values=jnp.nan) for leaf in leaves]
    table = jnp.concatenate(rows).reshape(-1, _WIDTH)  # (rows, _WIDTH)
    finite = jnp.isfinite(table)
    low = jnp.min(table, axis=1, where=finite, initial=jnp.inf)  # (rows,)
    high = jnp.max(table, axis=1, where=finite, initial=-jnp.inf)
    low = jax.ops.segment_min(low, owner, len(leaves), indices_are_sorted=True)  # (tensors,)
    high = jax.ops.segment_max(high, owner, len(leaves), indices_are_sorted=True)
    scale = NUM_BINS / jnp.maximum(high - low, jnp.finfo(jnp.float32).tiny)
    index = jnp.clip(jnp.floor((table - low[owner, None]) * scale[owner, None]), 0, NUM_BINS - 1).astype(jnp.int32)
    bins = jnp.where(finite, owner[:, None] * NUM_BINS + index, len(leaves) * NUM_BINS)
    counts = jnp.zeros(len(leaves) * NUM_BINS, jnp.int32).at[bins].add(1, mode="drop")
    return Counts(counts.reshape(-1, NUM_BINS), low, high)


def name_histograms(counts: Counts, tree: dict[str, Any]) -> list[Histogram]:
    """Return named histograms, as `gradients/conv1/kernel`, of the tensors that have a finite value.

    Only the structure of `tree` is used.
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    arrays = (np.asarray(counts.counts), np.asarray(counts.low), np.asarray(counts.high))
    return [
        Histogram("/".join(key.key for key in path), count, float(low), float(high))
        for path, count, low, high in zip(paths, *arrays, strict=True)
        if count.any()
    ]
