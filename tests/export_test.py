"""Exported files against the modules that they come from, run by their own runtimes."""

from pathlib import Path

import export_model
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from random_weights import random_image, random_tensor

from jaxdeblur.initial_weights import network_shapes
from jaxdeblur.models import MODELS, build_model
from jaxdeblur.weights import read_weights, write_weights

TOOL = Path(__file__).parent.parent / "tools" / "export_model.py"
TINY = {
    "resnetencdec": {"width": 4, "stage_sizes": (1, 2, 1, 1)},
    "transformnet": {"width": 4, "num_blocks": 2},
    "unet": {"width": 4, "num_levels": 3, "num_blocks": 2},
}
# Batch, height, width: multiples of 32, of 4 and 8, of neither in either direction, and the smallest.
SIZES = ((1, 32, 64), (3, 24, 40), (1, 45, 38), (3, 20, 33), (1, 8, 9))


def random_variables(network, **options):
    """Weights and statistics of which none is trivial, named as PyTorch's for the sake of `random_tensor`."""
    theirs = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    tree = {}
    for name, shape in network_shapes(build_model(network, **options)).items():
        *path, leaf = name.split("/")
        # Kernels are (h, w, in, out): the axes before the last are the fan-in, which random_tensor expects last.
        tensor = random_tensor("/".join([*path, theirs.get(leaf, leaf)]), shape[::-1]).transpose()
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[leaf] = tensor
    return tree


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of weights by network."""
    folder = tmp_path_factory.mktemp("weights")
    for network, options in TINY.items():
        write_weights(folder / f"{network}.safetensors", random_variables(network, **options), {"network": network})
    return {network: folder / f"{network}.safetensors" for network in TINY}


def make_expected(network, variables, **options):
    """Return the module's restoration of a batch, for every shape compiled anew."""
    model = build_model(network, **options)
    return jax.jit(lambda image: jnp.clip(model.apply(variables, image, train=False), 0, 1))


def run_onnx(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def run_stablehlo(path):
    return jax.jit(jax.export.deserialize(path.read_bytes()).call)


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize(("form", "run", "bound"), [("stablehlo", run_stablehlo, 1e-5), ("onnx", run_onnx, 1e-4)])
def test_every_size_and_batch_equals_the_module(network, form, run, bound, weights, tmp_path):
    export_model.export(weights[network], form, tmp_path / "file")
    restore = run(tmp_path / "file")
    expected = make_expected(network, read_weights(weights[network])[0], **TINY[network])
    for batch, height, width in SIZES:
        image = random_image(height, width, batch)
        found, wanted = np.asarray(restore(image)), np.asarray(expected(image))
        assert found.dtype == np.float32
        assert found.shape == wanted.shape
        print(network, form, found.shape, np.abs(found - wanted).max(), wanted.std(), wanted.min(), wanted.max())
        np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)
