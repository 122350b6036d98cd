"""The command line of training and evaluation, before anything is loaded."""

import errno
from pathlib import Path

import pytest
from jax.errors import JaxRuntimeError

from jaxdeblur import main
from jaxdeblur.config.command_line import default_workdir, use_config_of_run
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.failures import explain


def test_evaluation_reads_the_config_of_the_run(tmp_path, capsys):
    """In place of a recipe, which may have changed or be gone; fields that are set stay set."""
    (tmp_path / "config.json").write_text("{}")
    loader = f"--config={Path(main.__file__).parent / 'config' / 'saved_run.py'}:{tmp_path}"
    fields = ["--config.data.root=elsewhere", "--checkpoints", "all"]
    for recipe in ([], ["--config", "configs/gone.py"], ["--config=configs/gone.py:smoke"]):
        arguments = ["main.py", "--mode", "evaluate", *recipe, "--workdir", str(tmp_path), *fields]
        actual = use_config_of_run(arguments)
        assert actual == [
            *("main.py", loader, f"--workdir={tmp_path}", "--mode", "evaluate", "--workdir", str(tmp_path)),
            *fields,
        ]
        assert ("is ignored" in capsys.readouterr().err) == bool(recipe)


@pytest.mark.parametrize("more", [[], ["--mode=train"], ["--mode=evaluate", "--weights=w.safetensors"]])
def test_other_modes_keep_their_recipe(tmp_path, more):
    (tmp_path / "config.json").write_text("{}")
    arguments = ["main.py", "--config=configs/unet.py", f"--workdir={tmp_path}", *more]
    assert use_config_of_run(arguments) == arguments


def test_evaluation_without_a_run_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--workdir is missing"):
        use_config_of_run(["main.py", "--mode=evaluate"])
    with pytest.raises(SystemExit, match="holds no run"):
        use_config_of_run(["main.py", "--mode=evaluate", f"--workdir={tmp_path}"])


def test_the_default_workdir_is_named_after_the_recipe():
    assert default_workdir(None, "configs/unet.py:smoke") == Path("runs/unet-smoke")
    assert default_workdir("mine", "configs/unet.py") == Path("mine")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("a: wrong"), "error: a: wrong"),
        (OSError(errno.ENOSPC, "full", "/cache/x"), "error: /cache/x: the disk is full"),
        (OSError(errno.EDQUOT, "quota"), "error: run: your disk quota is used up"),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "error: out of memory"),
        (MemoryError(), "error: out of memory"),
    ],
)
def test_errors_that_users_can_fix_have_a_message(error, message):
    assert explain(error, Path("run")).startswith(message)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), JaxRuntimeError("INTERNAL: x"), KeyError("x")])
def test_other_errors_keep_their_traceback(error):
    assert explain(error, Path("run")) == ""
