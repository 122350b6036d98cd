"""Histograms counted on the device match NumPy's."""

import jax
import numpy as np
import pytest

from jaxdeblur.runs.metric_log import NUM_BINS
from jaxdeblur.training.tensor_histograms import MOST_VALUES, count_values, name_histograms

RNG = np.random.default_rng(0)


def count(tree):
    """Return the histograms of a tree of arrays by name."""
    return {
        histogram.name: histogram for histogram in name_histograms(jax.device_get(jax.jit(count_values)(tree)), tree)
    }


def test_counts_match_numpy():
    """Tensors of less than a row of the table, of a row exactly, and of many; each has its own extremes."""
    shapes = {"small": (7,), "row": (256,), "kernel": (3, 3, 8, 16), "long": (1000,)}
    tree = {name: RNG.normal(i, i + 1, shape).astype(np.float32) for i, (name, shape) in enumerate(shapes.items())}
    histograms = count(tree)
    assert set(histograms) == set(shapes)
    for name, values in tree.items():
        expected, edges = np.histogram(values.astype(np.float64), NUM_BINS)
        # A value on an edge may fall to either side: float32 rounds differently.
        assert np.abs(np.cumsum(histograms[name].counts) - np.cumsum(expected)).max() <= 1, name
        assert histograms[name].counts.sum() == values.size
        np.testing.assert_allclose(histograms[name].edges, edges, atol=1e-5)
        assert (histograms[name].low, histograms[name].high) == (values.min(), values.max())


def test_equal_values_fill_one_bin_and_non_finite_values_are_ignored():
    tree = {"equal": np.array([2.0, 2.0, np.nan, np.inf, 2.0], np.float32), "nothing": np.full(3, np.nan, np.float32)}
    histograms = count(tree)
    assert list(histograms) == ["equal"]
    assert histograms["equal"].counts.sum() == histograms["equal"].counts.max() == 3
    assert (histograms["equal"].low, histograms["equal"].high) == (2.0, 2.0)


@pytest.mark.parametrize("channels", [8, 64])
def test_the_subset_of_a_large_tensor_covers_all_channels(channels):
    """Channels of which each has one value: all have about their share of what is counted."""
    values = np.broadcast_to(np.arange(channels, dtype=np.float32), (8 * MOST_VALUES // channels, channels))
    counts = count({"kernel": values})["kernel"].counts
    assert MOST_VALUES / 2 < counts.sum() <= MOST_VALUES
    bins = np.minimum(np.arange(channels) * NUM_BINS // (channels - 1), NUM_BINS - 1)
    share = np.bincount(bins, minlength=NUM_BINS) / channels
    np.testing.assert_allclose(counts / counts.sum(), share, atol=1e-3)


def test_histograms_are_named_by_parameter_path():
    tree = {"b": {"bias": np.arange(6.0)}, "a": {"kernel": np.arange(4.0)}}
    assert {name: histogram.counts.sum() for name, histogram in count(tree).items()} == {"a/kernel": 4, "b/bias": 6}
