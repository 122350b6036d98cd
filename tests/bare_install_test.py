"""Every command after a plain `pip install .`: missing optional packages are named, without a traceback."""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from packaging.requirements import Requirement

from jaxdeblur.errors import InputError
from jaxdeblur.models import build_model
from jaxdeblur.runtime.optional_packages import EXTRAS, require
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.images import save_noise, write_pairs
from tests.helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def entry_points():
    """Return all modules and scripts that can be run."""
    guarded = [p for p in ROOT.glob("jaxdeblur/**/*.py") if '__name__ == "__main__"' in p.read_text()]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in guarded]
    scripts = [p.name for p in ROOT.glob("tools/*.py") if '__name__ == "__main__"' in p.read_text()]
    return sorted(modules) + sorted(scripts)


def base_distributions():
    """Return the distributions that `pip install .` installs, direct and transitive, by normalised name."""
    distributions, pending = {}, [(requirement, "") for requirement in PROJECT["dependencies"]]
    visited = set()
    while pending:
        text, extra = pending.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            key = (re.sub(r"[-_.]+", "-", requirement.name).lower(), wanted)
            if key in visited:
                continue
            visited.add(key)
            distribution = distributions[key[0]] = importlib.metadata.distribution(requirement.name)
            pending += [(text, wanted) for text in distribution.requires or []]
    return distributions


def blocked_modules():
    """Return the installed modules that `pip install .` would not install."""
    base = base_distributions().keys() | {"jaxdeblur"}
    return sorted(
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & base
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of inputs for the commands."""
    path = tmp_path_factory.mktemp("bare")
    shapes = network_shapes(build_model("transformnet", width=4, num_blocks=1))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_weights(path / "net.safetensors", unflatten_dict(tensors, sep="/"), {"network": "transformnet"})
    save_noise(path / "photos" / "a.png", (64, 64))
    for name, brand in (("heic", b"heic"), ("mp4", b"mp42")):
        (path / name).mkdir()
        (path / name / f"a.{name}").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    (path / "theirs.pth").write_bytes(b"PK")
    for split, sequence in (("train", "a"), ("train", "v"), ("test", "t")):
        write_pairs(path / "gopro", split, sequence, 2)
    return path


def needs(extra):
    """Return a regular expression for the message that names an extra."""
    return rf"error: .*needs? .*, which is not installed: pip install '.*\[{extra}\]'"


# Command line, exit status, and regular expression for the output. IN is the folder above, OUT an empty one.
CASES = [
    ("jaxdeblur.main", 1, "error: --config is missing"),
    ("jaxdeblur.main --config nowhere.py", 1, "error: .*cannot be read"),
    ("jaxdeblur.predict --weights none --input IN/photos --output OUT/a", 1, "error: none"),
    ("jaxdeblur.demo --weights IN/net.safetensors", 1, needs("demo")),
    ("jaxdeblur.video --weights IN/net.safetensors --input IN/mp4/a.mp4 --output OUT/a.mp4", 1, needs("video")),
    ("benchmark.py data --data IN/gopro", 1, needs("made-blur")),
    ("benchmark.py data --data nowhere", 1, "error: .*nowhere"),
    ("benchmark_peer.py 'PyTorch eager' train transformnet 2 16 16", 1, needs("convert")),
    ("convert_weights.py to-jax --network transformnet IN/theirs.pth OUT/a.safetensors", 1, needs("convert")),
    ("convert_weights.py to-torch IN/net.safetensors OUT/a.pth", 1, needs("convert")),
    ("convert_weights.py to-torch IN/net.safetensors OUT/a.safetensors", 0, "tensors of transformnet"),
    ("export_model.py --weights IN/net.safetensors --format onnx --output OUT/b", 1, needs("export")),
    ("export_model.py --weights IN/net.safetensors --format stablehlo --output OUT/b", 1, needs("export")),
    ("make_demo_data.py --output OUT/c", 1, needs("demo-data")),
    ("make_goldens.py", 1, needs("convert")),
    ("make_report.py nowhere --output OUT/d", 1, "error: nowhere"),
    ("prepare_gopro.py --source nowhere --output OUT/e --blur blur --frames 256", 1, "error: .*nowhere"),
    ("recipe_table.py --records OUT/f add nowhere --table a --recipe b", 1, "error: nowhere"),
    ("restore_demo_photographs.py --output OUT/m.html", 1, needs("demo-data")),
    ("synthesize_blur.py photos --input IN/photos --output OUT/g", 1, needs("made-blur")),
    ("synthesize_blur.py frames --input IN/mp4 --output OUT/h --test_share 1 --validation_share 0", 1, needs("video")),
    ("update_parity_table.py", 1, needs("test")),
    *((f"{name} --help", 1 if name == "jaxdeblur.main" else 0, "(?i)usage:|flags:") for name in entry_points()),
]
# Commands that take seconds because they run a network.
LONG_CASES = [
    ("jaxdeblur.predict --weights IN/net.safetensors --input IN/photos --output OUT/i", 0, ""),
    ("jaxdeblur.predict --weights IN/net.safetensors --input IN/heic --output OUT/j", 1, r"pip install '.*\[heic\]'"),
    ("synthesize_blur.py frames --window 1 --input IN/gopro --output OUT/k --validation_share 0", 0, "pairs of"),
    ("interval_coverage.py --repeats 1", 0, "lognormal"),
    (
        f"jaxdeblur.main --config {ROOT}/configs/transformnet.py:smoke --workdir OUT/l --config.data.root=IN/gopro "
        "--config.model.width=4 --config.model.num_blocks=1 --config.data.resize=16 --config.data.batch_size=2 "
        "\"--config.data.validation_sequences=('v',)\" \"--config.evaluation.protocols=('16',)\" "
        "'--config.stages[0].crop=0' '--config.stages[1].crop=0'",
        0,
        "Report: ",
    ),
]


def split(command, folder, output):
    """Return a command line as a list: a script's path or a module's name, then the arguments."""
    name, *arguments = shlex.split(command)
    name = str(ROOT / "tools" / name) if name.endswith(".py") else name
    return [name, *(part.replace("IN/", f"{folder}/").replace("OUT/", f"{output}/") for part in arguments)]


def check(case, status, printed):
    command, expected, pattern = case
    assert "Traceback" not in printed, f"{command}: {printed}"
    assert status == expected, f"{command}: {printed}"
    assert re.search(pattern, printed), f"{command}: {printed}"


def test_no_command_needs_an_unrelated_optional_package(folder, tmp_path):
    commands = [split(command, folder, tmp_path) for command, _, _ in CASES]
    script = [sys.executable, str(ROOT / "tests" / "helpers" / "run_without_extras.py")]
    arguments = [json.dumps(commands), json.dumps(blocked_modules())]
    process = subprocess.run(
        [*script, *arguments], stdout=subprocess.PIPE, text=True, check=True, cwd=tmp_path, env=ENVIRONMENT
    )
    for case, (status, printed) in zip(CASES, json.loads(process.stdout.splitlines()[-1]), strict=True):
        check(case, status, printed)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """The Python of a virtual environment with what `pip install .` installs, linked from this environment."""
    path = tmp_path_factory.mktemp("venv")
    venv.create(path, with_pip=False, symlinks=True)
    python = path / "bin" / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", find], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    for distribution in base_distributions().values():
        for file in distribution.files:
            target = packages / file
            if ".." not in file.parts and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(distribution.locate_file(file))
    return python


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *LONG_CASES], ids=lambda case: case[0].replace(str(ROOT), ""))
def test_every_command_runs_in_a_bare_environment(case, folder, bare_python, tmp_path):
    name, *arguments = split(case[0], folder, tmp_path)
    command = [bare_python, *([name] if name.endswith(".py") else ["-m", name]), *arguments]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    check(case, process.returncode, process.stdout)


@pytest.mark.slow
def test_the_bare_environment_has_no_optional_package(bare_python):
    script = "import importlib, sys\nfor name in sys.argv[1:]:\n  try: importlib.import_module(name); print(name)\n"
    script += "  except ModuleNotFoundError: pass"
    process = subprocess.run([bare_python, "-c", script, *EXTRAS], stdout=subprocess.PIPE, text=True, check=True)
    assert process.stdout == ""


def test_optional_packages_are_blocked_and_required_ones_are_not():
    blocked = set(blocked_modules())
    assert {"av", "cv2", "onnx", "onnxruntime", "pytest", "skimage", "sklearn"} <= blocked
    assert not {"jax", "numpy", "PIL", "scipy", "matplotlib", "jaxdeblur", "google"} & blocked


def test_a_broken_package_is_not_reported_as_missing(tmp_path, monkeypatch):
    """Such as OpenCV without libGL, or a package without its own requirement."""
    monkeypatch.syspath_prepend(tmp_path)
    for content in ("raise ImportError('libGL.so.1: cannot open shared object file')", "import no_such_module"):
        (tmp_path / "gradio.py").write_text(content)
        with pytest.raises(InputError) as error:
            require("gradio", "The page")
        assert error.value.code == "broken-extra"


def test_every_optional_module_is_in_its_extra():
    for module, (extra, _) in EXTRAS.items():
        packages = {Requirement(text).name for text in PROJECT["optional-dependencies"][extra]}
        known = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "sklearn": "scikit-learn"}
        assert known.get(module, module) in packages, module
