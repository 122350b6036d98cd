"""Exported files, run by their own runtimes, against the modules."""

import json
import re
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image
from random_weights import random_image, random_tensor

from jaxdeblur.errors import InputError
from jaxdeblur.export import command
from jaxdeblur.export.write import FORMATS, export
from jaxdeblur.models import MODELS, build_model
from jaxdeblur.weights.safetensors import read_weights, write_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes
from tests.helpers.paths import ROOT

# In the extras `export` and `test`.
pytest.importorskip("flatbuffers")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


# At least two blocks wherever there can be several.
OPTIONS = {
    "msresnet": {"width": 4, "num_blocks": 2},
    # With fewer channels, LayerNorm amplifies rounding errors where they happen to be equal.
    "nafnet": {"width": 16, "encoder_blocks": (1, 2), "middle_blocks": 1, "decoder_blocks": (2, 1)},
    "resnetencdec": {"width": 4, "stage_sizes": (1, 2, 1, 1)},
    "transformnet": {"width": 4, "num_blocks": 2},
    "unet": {"width": 4, "num_levels": 3, "num_blocks": 2},
}
# Batch, height, width: multiples of 32; of 4 in one direction only; of 4 in neither; and the smallest.
SIZES = ((1, 32, 64), (3, 20, 33), (1, 45, 38), (1, 8, 9))


def random_variables(network, **options):
    """Non-trivial weights and statistics; `random_tensor` goes by PyTorch's names."""
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
    """Paths of weights by network."""
    folder = tmp_path_factory.mktemp("weights")
    for network, options in OPTIONS.items():
        metadata = {"network": network, "options": json.dumps(options)}
        write_weights(folder / f"{network}.safetensors", random_variables(network, **options), metadata)
    return {network: folder / f"{network}.safetensors" for network in OPTIONS}


def make_expected(network, variables, **options):
    """Return the module's compiled function from images to restored ones."""
    model = build_model(network, **options)
    return jax.jit(lambda image: jnp.clip(model.apply(variables, image, train=False), 0, 1))


@pytest.fixture(scope="module")
def expected(weights):
    """The modules' outputs for images of all sizes, by network."""
    restored = {}
    for network, path in weights.items():
        restore = make_expected(network, read_weights(path)[0], **OPTIONS[network])
        restored[network] = [np.asarray(restore(random_image(*sides, batch))) for batch, *sides in SIZES]
    return restored


def run_onnx(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def run_stablehlo(path):
    return jax.jit(jax.export.deserialize(path.read_bytes()).call)


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize(
    ("file_format", "run", "bound"), [("stablehlo", run_stablehlo, 1e-5), ("onnx", run_onnx, 1e-4)]
)
def test_outputs_equal_the_modules(network, file_format, run, bound, weights, expected, tmp_path):
    export(weights[network], file_format, tmp_path / "file")
    restore = run(tmp_path / "file")
    for (batch, *sides), wanted in zip(SIZES, expected[network], strict=True):
        output = np.asarray(restore(random_image(*sides, batch)))
        assert output.dtype == np.float32
        assert output.shape == wanted.shape
        assert wanted.std() > 0.01
        np.testing.assert_allclose(output, wanted, rtol=0, atol=bound)


VARIANTS = [
    ("transformnet", {"width": 4, "num_blocks": 1, "residual": True, "norm": "none"}),
    ("resnetencdec", {"width": 4, "stage_sizes": (1, 1, 1, 1), "residual": True, "norm": "none"}),
    (
        "nafnet",
        {"width": 16, "encoder_blocks": (1,), "decoder_blocks": (1,), "half_resolution": False, "attention": "global"},
    ),
    ("nafnet", {"width": 16, "encoder_blocks": (0, 1), "decoder_blocks": (1, 0)}),
    (
        "nafnet",
        {
            "width": 16,
            "encoder_blocks": (1,),
            "decoder_blocks": (1,),
            "half_resolution": False,
            "attention": "local",
            "attention_box": 20,
            "padding": "zeros",
        },
    ),
]


@pytest.mark.parametrize(("network", "options"), VARIANTS)
def test_graphs_of_variants_equal_the_module(network, options, tmp_path):
    variables = random_variables(network, **options)
    metadata = {"network": network, "options": json.dumps(options)}
    write_weights(tmp_path / "weights.safetensors", variables, metadata)
    export(tmp_path / "weights.safetensors", "onnx", tmp_path / "file")
    image = random_image(45, 38, 1)
    wanted = np.asarray(make_expected(network, variables, **options)(image))
    assert np.abs(wanted - image).mean() > 0.01
    np.testing.assert_allclose(run_onnx(tmp_path / "file")(image), wanted, rtol=0, atol=1e-4)


def read_example(form):
    """Return the snippet from docs/export.md that runs a file of this format."""
    programs = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    (program,) = [program for program in programs if f'"transformnet.{form}"' in program]
    return program


@pytest.mark.parametrize(("form", "without"), [("onnx", ("jaxdeblur", "jax")), ("stablehlo", ("jaxdeblur", "flax"))])
def test_the_documented_example_runs_without_this_package(form, without, weights, tmp_path):
    export(weights["transformnet"], form, tmp_path / f"transformnet.{form}")
    photo = (random_image(45, 38, 1)[0] * 255).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "blurred.png")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({without}))\n"
    command = [sys.executable, "-I", "-c", blocked + read_example(form)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output = np.asarray(Image.open(tmp_path / "restored.png"), int)
    restore = make_expected("transformnet", read_weights(weights["transformnet"])[0], **OPTIONS["transformnet"])
    wanted = np.asarray(restore(photo[None] / np.float32(255))[0]) * 255
    assert wanted.std() > 1
    assert np.abs(output - wanted).max() < 0.51  # rounded to 8 bits
    assert fingerprint(read_weights(weights["transformnet"])[0]) in done.stdout


def test_the_stablehlo_file_has_a_program_for_each_platform(weights, tmp_path):
    export(weights["unet"], "stablehlo", tmp_path / "file")
    exported = jax.export.deserialize((tmp_path / "file").read_bytes())
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.fun_name == f"unet_{fingerprint(read_weights(weights['unet'])[0])}"
    restore = jax.jit(exported.call)
    assert restore(np.zeros((1, 8, 9, 3), np.float32)).shape == (1, 8, 9, 3)
    with pytest.raises(ValueError, match="shape"):
        restore(np.zeros((1, 7, 9, 3), np.float32))


def test_the_onnx_file_describes_itself(weights, tmp_path):
    export(weights["unet"], "onnx", tmp_path / "file.onnx")
    file = onnx.load(tmp_path / "file.onnx")
    facts = {entry.key: entry.value for entry in file.metadata_props}
    assert facts["weights_sha256"] == fingerprint(read_weights(weights["unet"])[0])
    assert (facts["network"], facts["layout"], facts["colour_order"]) == ("unet", "NHWC", "RGB")
    assert (facts["value_range"], facts["multiple_of_sides"][:2], facts["least_side"]) == ("[0, 1]", "8;", "8")
    for end in (*file.graph.input, *file.graph.output):
        sides = [side.dim_param or side.dim_value for side in end.type.tensor_type.shape.dim]
        assert sides == ["batch", "height", "width", 3]


def run_tool(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "export_model.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_offers_every_format():
    assert set(command.FORMATS) == set(FORMATS)


def test_the_command_writes_the_file_or_reports_the_error(weights, tmp_path):
    arguments = ("--weights", weights["unet"], "--format", "stablehlo", "--output")
    done = run_tool(*arguments, tmp_path / "new" / "unet.stablehlo")
    assert done.returncode == 0, done.stderr
    assert "unet as stablehlo" in done.stdout
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["unet.stablehlo"]
    done = run_tool(*arguments, weights["unet"].parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --output: ")
    assert "is a folder" in done.stderr


@pytest.mark.parametrize("damage", ["another network", "other tensors", "missing layer", "truncated"])
def test_other_weights_are_refused(damage, weights, tmp_path):
    tensors = traverse_util.flatten_dict(read_weights(weights["transformnet"])[0], sep="/")
    metadata, wrong = {"network": "transformnet"}, tmp_path / "wrong.safetensors"
    message = "wrong.safetensors: "
    if damage == "another network":
        metadata, code = {"network": "lpips_alex"}, "weights-restore-nothing"
    elif damage == "other tensors":
        metadata, code = {"network": "unet"}, "weights-do-not-fit"
    elif damage == "missing layer":
        del tensors["params/conv5/kernel"]
        code, message = "weights-do-not-fit", r"(?s)1 problem\(s\).*params/conv5/kernel \(3, 3, 8, 4\): missing"
    else:
        code = "weights-unreadable"
    write_weights(wrong, traverse_util.unflatten_dict(tensors, sep="/"), metadata)
    if damage == "truncated":
        wrong.write_bytes(wrong.read_bytes()[:1000])
    with pytest.raises(InputError, match=message) as error:
        export(wrong, "stablehlo", tmp_path / "file")
    assert error.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.safetensors"]


def test_non_finite_weights_are_not_exported_to_onnx(weights, tmp_path):
    variables, metadata = read_weights(weights["unet"])
    variables["params"]["output"]["bias"][0] = np.nan
    write_weights(tmp_path / "wrong.safetensors", variables, metadata)
    with pytest.raises(InputError, match="differs from unet by nan") as error:
        export(tmp_path / "wrong.safetensors", "onnx", tmp_path / "file")
    assert error.value.code == "onnx-differs"
    assert not (tmp_path / "file").exists()


def test_the_weights_are_not_overwritten(weights):
    before = weights["unet"].read_bytes()
    with pytest.raises(InputError) as error:
        export(weights["unet"], "onnx", weights["unet"])
    assert error.value.code == "output-is-input"
    assert weights["unet"].read_bytes() == before


def test_read_only_folders_are_refused(weights, read_only_folder):
    with pytest.raises(InputError) as error:
        export(weights["unet"], "stablehlo", read_only_folder / "file")
    assert error.value.code == "output-unwritable"


def test_a_full_disk_leaves_the_old_file_only(weights, small_disk):
    (small_disk / "file").write_bytes(b"old")
    (small_disk / "fill").write_bytes(bytes(2**21 - 3 * 4096))
    with pytest.raises(InputError, match="No space left") as error:
        export(weights["transformnet"], "stablehlo", small_disk / "file")
    assert error.value.code == "output-unwritable"
    assert (small_disk / "file").read_bytes() == b"old"
    assert {path.name for path in small_disk.iterdir()} == {"file", "fill"}


@pytest.mark.parametrize(("form", "package"), [("onnx", "onnx"), ("onnx", "onnxruntime"), ("stablehlo", "flatbuffers")])
def test_a_missing_package_is_named(form, package, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package}.*jaxdeblur\[export\]") as error:
        export(weights["unet"], form, tmp_path / "file")
    assert error.value.code == "missing-extra"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_published_width_equals_the_module_on_a_real_frame(file_format, real_gopro, tmp_path):
    """Every other pixel of a frame of 1280x720."""
    write_weights(tmp_path / "weights", random_variables("resnetencdec"), {"network": "resnetencdec"})
    export(tmp_path / "weights", file_format, tmp_path / "file")
    frame = Image.open(sorted(real_gopro.glob("test/*/blur/*.png"))[0])
    image = np.asarray(frame, np.float32)[None, ::2, ::2] / 255
    output = {"onnx": run_onnx, "stablehlo": run_stablehlo}[file_format](tmp_path / "file")(image)
    wanted = make_expected("resnetencdec", read_weights(tmp_path / "weights")[0])(image)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-4)
