"""The command `jaxdeblur`: what it dispatches to, what it imports, names of results, and exit statuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from jaxdeblur import cli, demo, predict, video
from jaxdeblur.config import recipes
from jaxdeblur.config.recipes import find_recipe, recipe_folder
from jaxdeblur.errors import InputError
from jaxdeblur.models import build_model
from jaxdeblur.weights.pretrained.catalogue import SHIPPED
from jaxdeblur.weights.pretrained.listing import describe
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.images import save_noise
from tests.helpers.networks import SMALL
from tests.helpers.report_records import image_record, write_evaluation, write_facts

HEAVY = ("jax", "flax", "orbax", "matplotlib", "tensorflow_datasets", "grain", "scipy", "numpy")


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """A UNet whose weights are zero: it returns every image unchanged."""
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    tensors = {
        name: np.zeros(shape, np.float32)
        for name, shape in network_shapes(build_model("unet", **SMALL["unet"])).items()
    }
    about = {"network": "unet", "options": json.dumps(SMALL["unet"])}
    write_weights(path, traverse_util.unflatten_dict(tensors, sep="/"), about)
    return path


def run(*arguments):
    """Run the command in this process and return its exit status."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        return 1 if isinstance(exit_.code, str) else exit_.code or 0
    return 0


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("arguments", [["--help"], ["weights"], ["train", "--help"], ["config"], ["--version"]])
def test_help_and_listings_need_no_heavy_imports(arguments):
    code = (
        "import sys\n"
        "from jaxdeblur.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    output = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in output
    assert "130" in output


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_under_its_name(name, capsys):
    assert run(name, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: jaxdeblur {name} ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["sharpen"], ["restore"], ["restore", "a.png", "--sharpen"], ["weights", "all"], ["train"], ["config", "--x"]],
)
def test_invalid_command_lines_exit_with_2(arguments, capsys):
    assert run(*arguments) == 2
    assert "usage: jaxdeblur" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def interrupted(arguments, *, prog):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "config", (interrupted, ""))
    assert run("config") == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("module", [predict, video, demo])
def test_no_command_requires_weights(module):
    arguments = {predict: ["a.png"], video: ["--input=a.mp4", "--output=b.mp4"], demo: []}[module]
    assert module.make_parser().parse_args(arguments).weights is None


def test_option_names_may_have_hyphens():
    given = ["--side-by-side", "a-b.png", "--config.data.batch-size=8-9", "--output", "my-photos", "-q", "--", "--a-b"]
    assert cli.with_underscores(given) == [
        *("--side_by_side", "a-b.png", "--config.data.batch_size=8-9", "--output", "my-photos", "-q", "--", "--a-b")
    ]


def test_results_are_written_next_to_the_photos(tmp_path, identity):
    for name in ("a.png", "sub/b.jpg"):
        save_noise(tmp_path / name)
    arguments = ("restore", tmp_path / "a.png", "--side-by-side", tmp_path / "sub/b.jpg", "--weights", identity)
    assert run(*arguments) == 0
    assert files_in(tmp_path) == ["a.png", "a_restored.png", "sub"]
    assert files_in(tmp_path / "sub") == ["b.jpg", "b_restored.png"]
    with Image.open(tmp_path / "sub/b_restored.png") as result, Image.open(tmp_path / "sub/b.jpg") as photo:
        assert result.size == (2 * photo.width, photo.height)  # --side-by-side came through
        np.testing.assert_array_equal(np.asarray(result)[:, : photo.width], np.asarray(photo))


def test_existing_files_are_only_overwritten_with_overwrite(tmp_path, identity):
    save_noise(tmp_path / "a.png")
    (tmp_path / "a_restored.png").write_bytes(b"mine")
    assert run("restore", tmp_path / "a.png", "--weights", identity) == 1
    assert (tmp_path / "a_restored.png").read_bytes() == b"mine"
    assert run("restore", tmp_path / "a.png", "--weights", identity, "--overwrite") == 0
    with Image.open(tmp_path / "a_restored.png") as result, Image.open(tmp_path / "a.png") as photo:
        np.testing.assert_array_equal(np.asarray(result), np.asarray(photo))


def test_photos_that_differ_in_suffix_only_get_different_names(tmp_path, identity):
    for name in ("a.jpg", "a.png"):
        save_noise(tmp_path / name)
    assert run("restore", tmp_path / "a.jpg", tmp_path / "a.png", "--weights", identity) == 0
    assert files_in(tmp_path) == ["a.jpg", "a.jpg_restored.png", "a.png", "a_restored.png"]


def test_a_folder_needs_an_output(tmp_path, identity):
    save_noise(tmp_path / "in/a.png")
    assert run("restore", tmp_path / "in", "--weights", identity) == 1
    assert files_in(tmp_path / "in") == ["a.png"]
    assert run("restore", tmp_path / "in", "--weights", identity, "--output", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["a.png", "restored.jsonl"]


def test_pairs_are_synthesized_from_frames_and_checked(tmp_path, capsys):
    for number in range(3):
        save_noise(tmp_path / f"frames/{number}.png")
    options = ("--window", 3, "--test-share", 1, "--validation-share", 0)
    output = ("--input", tmp_path / "frames", "--output", tmp_path / "pairs")
    assert run("synthesize", "frames", *options, *output) == 0
    assert files_in(tmp_path / "pairs/test/frames") == ["blur", "blur_gamma", "sharp"]
    assert run("synthesize", "frames", *options, *output) == 1  # the output exists
    capsys.readouterr()
    assert run("check-photos", tmp_path / "frames", "--own", "--min-side", 16, "--min-sharpness", 0) == 0
    assert "3 photos, 0 with problems" in capsys.readouterr().out
    assert run("check-photos", tmp_path / "frames", "--own") == 1
    assert run("check-photos", tmp_path / "nowhere") == 1


def test_gopro_is_prepared_by_the_command(gopro_part, tmp_path, capsys):
    command = ("prepare-gopro", "--source", gopro_part, "--output", tmp_path / "data", "--blur", "blur")
    assert run(*command, "--frames", "256") == 1  # a part of the data set
    assert run(*command, "--frames", "256", "--partial") == 0
    assert "gopro_large/blur_256/1.0.0 is ready: 4 train, 4 test pairs" in capsys.readouterr().out
    assert run(*command, "--frames", "256", "--partial") == 0
    assert "already exists" in capsys.readouterr().out


def test_a_network_is_exported(identity, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    command = ("export", "--weights", identity, "--format", "stablehlo", "--output")
    assert run(*command, tmp_path / "identity.stablehlo") == 0
    assert "unet as stablehlo" in capsys.readouterr().out
    assert files_in(tmp_path) == ["identity.stablehlo"]
    assert run(*command, tmp_path) == 1  # a folder
    assert run("export", "--weights", identity, "--output", tmp_path / "file") == 2  # no format


def test_runs_are_reported_and_compared(tmp_path, capsys):
    images = [image_record(sequence, "1", 24.0, 25.0) for sequence in "abc"]
    for name in ("first", "second"):
        write_facts(tmp_path / name)
        write_evaluation(tmp_path / name, images, {("a", "1"): (("spread",), *[np.zeros((8, 8, 3), np.uint8)] * 3)})
    runs = (tmp_path / "first", tmp_path / "second")
    assert run("report", *runs, "--output", tmp_path / "report") == 0
    assert "report.html" in capsys.readouterr().out
    assert {"report.html", "report.md", "report.csv", "report.json"} <= set(files_in(tmp_path / "report"))
    assert run("report", "--compare", *runs) == 0
    assert "first" in capsys.readouterr().out
    assert run("report", "--compare", tmp_path / "first", tmp_path / "none") == 1
    assert run("report", *runs) == 2  # no output


def test_one_failure_exits_with_1_and_does_not_stop_the_rest(tmp_path, identity):
    save_noise(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a photo")
    assert run("restore", tmp_path / "b.png", tmp_path / "a.png", "--weights", identity) == 1
    assert files_in(tmp_path) == ["a.png", "a_restored.png", "b.png"]


def test_shipped_networks_are_listed(capsys):
    assert run("weights") == 0
    output = capsys.readouterr().out
    for network in SHIPPED:
        assert describe(network) in output
        for fact in (network.full_name, f"{network.parameters:,} parameters", network.licence, "default"):
            assert fact in describe(network)
    assert run("weights", "--path", "nafnet-tiny") == 1


def test_the_path_of_a_shipped_file_is_printed(capsys):
    assert run("weights", "--path", SHIPPED[0].name) == 0
    assert Path(capsys.readouterr().out.strip()) == SHIPPED[0].file


def test_recipes_are_found_by_name_and_by_file(tmp_path, monkeypatch):
    assert find_recipe("nafnet") == recipe_folder() / "nafnet.py"
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    assert find_recipe("mine.py") == Path("mine.py")
    for name in ("mine", "nafnett", "gone.py"):
        with pytest.raises(InputError) as error:
            find_recipe(name)
        assert error.value.code == "recipe-not-found"
        assert "nafnet" in str(error.value)


def test_config_prints_the_fields_as_assignments(capsys):
    assert run("config", "nafnet", "--variant", "smoke") == 0
    output = capsys.readouterr().out
    lines = [line.partition("  # ")[0] for line in output.splitlines()]
    assert "data.batch_size = 4" in lines
    assert "data.crop_scale = (1.0, 1.0)" in lines
    assert "stages[0].optimizer.name = 'adam'" in lines
    assert "  # images per step, over all devices" in output
    assert run("config", "nafnet:smoke") == 0
    assert capsys.readouterr().out == output
    assert run("config", "nafnet", "--variant", "huge") == 1
    assert run("config", "nafnet", "--path") == 0
    assert capsys.readouterr().out.strip() == str(recipe_folder() / "nafnet.py")


def test_a_closed_pipe_ends_without_a_traceback():
    command = [sys.executable, "-c", "from jaxdeblur.cli import main; main()", "config", "nafnet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            ["train", "nafnet", "--init", "nafnet-small", "--data", "pairs", "--variant", "smoke", "--config.seed=3"],
            ["--config={recipe}:smoke", "--config.data.root=pairs", "--config.init.network=nafnet-small"],
        ),
        (
            ["evaluate", "nafnet", "--weights", "nafnet-small", "--workdir", "scores", "--config.seed=3"],
            ["--config={recipe}", "--workdir=scores", "--mode=evaluate", "--weights=nafnet-small"],
        ),
        (["evaluate", "--workdir", "runs/mine", "--config.seed=3"], ["--workdir=runs/mine", "--mode=evaluate"]),
    ],
)
def test_short_options_become_the_flags_of_main(command, flags, monkeypatch):
    from absl import app

    captured = {}
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(app, "run", lambda main, flags_parser: captured.update(argv=sys.argv))
    assert run(*command) == 0
    expected = [flag.format(recipe=recipes.recipe_folder() / "nafnet.py") for flag in flags]
    assert captured["argv"] == ["jaxdeblur.main", *expected, "--config.seed=3"]


def test_unknown_config_fields_are_reported_by_train(tmp_path):
    """End to end through `jaxdeblur.main`: the recipe is loaded, the field is refused."""
    code = "from jaxdeblur.cli import main; main()"
    arguments = ["train", "nafnet", "--variant=smoke", f"--workdir={tmp_path}/run", "--config.data.batch-siz=2"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no such field in the config" in done.stderr
    assert "batch_siz" in done.stderr
    assert "Traceback" not in done.stderr
