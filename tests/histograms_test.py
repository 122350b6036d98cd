"""Histograms counted on the device are NumPy's."""

import jax
import numpy as np
import pytest

from jaxdeblur.histograms import NUM_BINS, count, count_tree, edges


@pytest.mark.parametrize("shape", [(7,), (3, 3, 8, 16), (1000,)])
def test_counts_are_numpys(shape):
    values = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    found = jax.device_get(jax.jit(count)(values))
    expected, bounds = np.histogram(values.astype(np.float64), NUM_BINS)
    # A value on an edge may fall to either side: float32 divides otherwise.
    assert np.abs(np.cumsum(found["counts"]) - np.cumsum(expected)).max() <= 1
    assert found["counts"].sum() == values.size
    np.testing.assert_allclose(edges(found), bounds[1:], atol=1e-5)


def test_equal_values_fill_one_bin_and_others_than_numbers_none():
    found = jax.device_get(count(np.array([2.0, 2.0, np.nan, np.inf, 2.0], np.float32)))
    assert found["counts"].sum() == found["counts"].max() == 3
    assert (found["low"], found["high"]) == (2.0, 2.0)


def test_every_leaf_is_counted():
    tree = {"a": {"kernel": np.arange(4.0)}, "b": {"bias": np.arange(6.0)}}
    counts = count_tree(tree)
    assert counts["a"]["kernel"]["counts"].sum() == 4
    assert counts["b"]["bias"]["counts"].sum() == 6
