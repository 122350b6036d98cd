"""Shipped networks: how a value of --weights is resolved, and that the files match the catalogue."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np
import pack_weights
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import jaxdeblur
from jaxdeblur import predict
from jaxdeblur.errors import InputError
from jaxdeblur.models import build_model, options_of
from jaxdeblur.weights.initial import read_initial_weights
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.pretrained.catalogue import FOLDER, SHIPPED, Score, ShippedNetwork, find_shipped, resolve_weights
from jaxdeblur.weights.safetensors import read_metadata, read_weights, write_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes, shapes_of
from tests.helpers.images import smooth_image
from tests.helpers.networks import SMALL, constant_variables, normal_variables

MAX_MEGABYTES = 10


def entry(folder: Path, name: str, version: int, **fields) -> ShippedNetwork:
    file = folder / f"{name}@{version}.safetensors"
    return ShippedNetwork(name, version, "unet", file, "for tests", 1, (), "Apache-2.0", **fields)


@pytest.fixture
def shipped(tmp_path):
    """Two names, one with two versions, each with its file."""
    networks = (
        entry(tmp_path, "small", 1),
        entry(tmp_path, "small", 2, is_default=True),
        entry(tmp_path, "large", 10),
    )
    for network in networks:
        network.file.write_bytes(b"")
    return networks


@pytest.fixture(scope="module")
def shipped_file():
    """The default shipped network's file."""
    return next(network for network in SHIPPED if network.is_default).file


def code_of(call, *arguments, **options):
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return error.value.code, str(error.value)


def test_the_default_is_a_shipped_network(shipped):
    assert resolve_weights(None, shipped=shipped) == shipped[1].file


@pytest.mark.parametrize(("value", "index"), [("small", 1), ("small@1", 0), ("small@2", 1), ("large", 2)])
def test_a_name_without_version_is_the_highest_version(shipped, value, index):
    assert resolve_weights(value, shipped=shipped) == shipped[index].file


def test_other_values_are_paths(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "mine.safetensors").touch()
    assert resolve_weights("mine.safetensors", shipped=shipped) == Path("mine.safetensors")
    assert resolve_weights("small", shipped=shipped) == shipped[1].file
    assert resolve_weights("./small", shipped=shipped) == Path("small")
    assert resolve_weights(Path("small"), shipped=shipped) == Path("small")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_weights("~/mine.safetensors", shipped=shipped) == tmp_path / "mine.safetensors"


@pytest.mark.parametrize("value", ["smal", "small@3", "runs/gone", "gone.safetensors", Path("gone")])
def test_an_unknown_name_lists_the_shipped_networks(shipped, value):
    code, message = code_of(resolve_weights, value, shipped=shipped)
    assert code == "weights-not-found"
    assert str(value) in message
    for network in shipped:
        assert network.full_name in message


@pytest.mark.parametrize("value", [None, "small", "small@2"])
def test_a_missing_file_of_a_shipped_network_is_reported(shipped, value):
    shipped[1].file.unlink()
    code, message = code_of(resolve_weights, value, shipped=shipped)
    assert code == "shipped-weights-missing"
    assert "small@2" in message


def test_the_catalogue_is_consistent():
    assert [network.is_default for network in SHIPPED].count(True) == 1
    assert len({network.full_name for network in SHIPPED}) == len(SHIPPED)
    for network in SHIPPED:
        assert network.file == FOLDER / f"{network.full_name}.safetensors"
        assert find_shipped(network.full_name) is network
        assert network.description
        assert network.licence


def test_the_packages_files_are_those_of_the_catalogue(shipped_file):
    assert {path.name for path in FOLDER.glob("*.safetensors")} == {network.file.name for network in SHIPPED}
    assert sum(network.file.stat().st_size for network in SHIPPED) <= MAX_MEGABYTES * 10**6
    for network in SHIPPED:
        variables, metadata = read_weights(network.file)
        parameters = sum(math.prod(shape) for name, shape in shapes_of(variables).items() if name.startswith("params/"))
        actual = (metadata["name"], int(metadata["version"]), metadata["network"], parameters)
        assert actual == (network.name, network.version, network.network, network.parameters)
        assert load_network(network.file).multiple <= 32


def test_a_score_shows_input_result_and_gain():
    assert str(Score("5 frames of 1280x720", 22.75, 25.5)) == "5 frames of 1280x720: 22.75 -> 25.50 dB (+2.75)"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A small NAFNet packed for shipping, its module and its original weights."""
    folder = tmp_path_factory.mktemp("packed")
    model = build_model("nafnet", **SMALL["nafnet"])
    variables = normal_variables(network_shapes(model))
    write_weights(folder / "source.safetensors", variables, {"network": "nafnet"})
    metadata = {"name": "tiny", "version": 3, "licence": "CC0", "training_data": "noise"}
    return pack_weights.pack(folder / "source.safetensors", folder / "out", **metadata), model, variables


def test_a_packed_file_describes_itself(packed):
    path, model, variables = packed
    metadata = read_metadata(path)
    assert path.name == "tiny@3.safetensors"
    assert {name: metadata[name] for name in ("format", "network", "name", "version", "licence", "training_data")} == {
        "format": "1",
        "network": "nafnet",
        "name": "tiny",
        "version": "3",
        "licence": "CC0",
        "training_data": "noise",
    }
    assert json.loads(metadata["options"]) == json.loads(json.dumps(options_of(model)))
    assert {tensor.dtype for tensor in load_file(path).values()} == {np.dtype(np.float16)}
    half = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16).astype(np.float32), variables)
    assert metadata["fingerprint"] == fingerprint(half)
    assert fingerprint(read_weights(path)[0]) == fingerprint(half)


def test_the_options_are_read_not_inferred(packed, tmp_path):
    """With other options the file is refused, although they could be inferred from its tensors."""
    path = packed[0]
    assert load_network(path).model == build_model("nafnet", **SMALL["nafnet"])
    metadata = read_metadata(path)
    for options, code in (
        ({"width": 16}, "weights-do-not-fit"),
        ({"breadth": 8}, "weights-bad-options"),
        ([8], "weights-bad-options"),
    ):
        save_file(load_file(path), tmp_path / "other.safetensors", {**metadata, "options": json.dumps(options)})
        assert code_of(load_network, tmp_path / "other.safetensors")[0] == code


def test_corrupt_files_and_newer_formats_are_refused(packed, tmp_path):
    path = packed[0]
    tensors, metadata = load_file(path), read_metadata(path)
    save_file(tensors, tmp_path / "newer.safetensors", {**metadata, "format": "2"})
    assert code_of(read_weights, tmp_path / "newer.safetensors")[0] == "weights-newer-format"
    name = min(tensors)
    tensors[name] = tensors[name] + np.float16(1)
    save_file(tensors, tmp_path / "damaged.safetensors", metadata)
    assert code_of(read_weights, tmp_path / "damaged.safetensors")[0] == "weights-damaged"


def test_a_packed_network_restores_like_its_source(packed):
    path, _, variables = packed
    image = smooth_image(48, 64)
    exact = jaxdeblur.Restorer(build_model("nafnet", **SMALL["nafnet"]), variables)(image)
    restored = jaxdeblur.restore(image, path)
    assert not np.array_equal(restored, image)
    difference = np.abs(restored.astype(int) - exact)
    assert difference.max() <= 3
    assert difference.mean() < 0.1
    np.testing.assert_array_equal(jaxdeblur.load_restorer(path)(image), restored)


def test_weights_out_of_float16s_range_are_not_packed(tmp_path):
    shapes = network_shapes(build_model("unet", **SMALL["unet"]))
    variables = constant_variables(shapes)
    variables["params"]["down0"]["kernel"][0, 0, 0, 0] = 70_000.0
    write_weights(tmp_path / "large.safetensors", variables, {"network": "unet"})
    metadata = {"version": 1, "licence": "CC0", "training_data": "noise"}
    packing = (pack_weights.pack, tmp_path / "large.safetensors", tmp_path / "out")
    assert code_of(*packing, name="large", **metadata)[0] == "weights-out-of-range"
    assert not list((tmp_path / "out").iterdir())
    assert code_of(*packing, name="Large@", **metadata)[0] == "shipped-name"
    (tmp_path / "out" / "large@1.safetensors").write_bytes(b"mine")
    assert code_of(*packing, name="large", **metadata)[0] == "output-exists"


def test_a_run_starts_from_a_shipped_network(shipped_file):
    default = next(network for network in SHIPPED if network.is_default)
    shapes = network_shapes(load_network(shipped_file).model)
    initial = read_initial_weights(default.network, {"network": default.full_name, "encoder": ""}, shapes)
    assert shipped_file.name in initial.description
    assert initial.tensors.keys() == shapes.keys()


def test_a_run_cannot_start_from_an_unknown_name():
    code, message = code_of(read_initial_weights, "unet", {"network": "nafnet-smal", "encoder": ""}, {})
    assert code == "weights-not-found"
    assert SHIPPED[0].full_name in message


def test_photographs_are_restored_with_the_default_network(shipped_file, tmp_path):
    image = smooth_image(64, 96)
    Image.fromarray(image).save(tmp_path / "a.png")
    predict.main(["--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "sharp.png")])
    restored = np.asarray(Image.open(tmp_path / "sharp.png"))
    assert not np.array_equal(restored, image)
    np.testing.assert_array_equal(restored, jaxdeblur.restore(image))


def test_the_public_api_is_what_all_says():
    assert set(jaxdeblur.__all__) == {"Restorer", "__version__", "load_restorer", "restore"}
    assert dataclasses.is_dataclass(SHIPPED[0])
    for name in jaxdeblur.__all__:
        assert getattr(jaxdeblur, name)
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        _ = jaxdeblur.sharpen
