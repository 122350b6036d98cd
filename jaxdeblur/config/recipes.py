"""Recipes: finding and loading them, and the parts that they are made of. Nothing here imports JAX.

A recipe is a file with a function `get_config(variant)` that returns a ConfigDict. The project's own are in `configs/`
at the top of a checkout and, installed, in the package's folder `configs`. A variant `nafnet:gpu` is the file
`nafnet_gpu.py` next to `nafnet.py`; every recipe has `:smoke`.
"""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdeblur.config.fields import FIELDS, STAGE_FIELDS
from jaxdeblur.config.tree import flatten, to_config_dict, to_plain, with_defaults
from jaxdeblur.errors import InputError

_PACKAGE = Path(__file__).parents[1]


def recipe_folder() -> Path:
    """Return the folder of the project's recipes."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: one of the project's by name, as nafnet, or any file that ends in .py.

    Raises:
        InputError: there is none.
    """
    path = Path(name).expanduser() if name.endswith(".py") else recipe_folder() / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in recipe_folder().glob("*.py")))
        raise InputError(
            f"{name}: no recipe of that name, and no such file. Expected one of {known}, or a .py file.",
            code="recipe-not-found",
        )
    return path


def load_recipe(name: str) -> ConfigDict:
    """Return the config of a recipe of the project, to build another one on it."""
    return runpy.run_path(str(find_recipe(name)))["get_config"]()


def list_variants(path: Path) -> list[str]:
    """Return the variants of the recipe in a file."""
    return [
        "default",
        "smoke",
        *sorted(file.stem[len(path.stem) + 1 :] for file in path.parent.glob(f"{path.stem}_*.py")),
    ]


def load_variant(file: str, variant: str) -> ConfigDict:
    """Return a variant of the recipe in `file`: `smoke`, or what the file `<recipe>_<variant>.py` next to it says.

    Raises:
        ValueError: there is no such variant.
    """
    path = Path(file)
    if variant == "smoke":
        return smoke(runpy.run_path(file)["get_config"]())
    if variant not in list_variants(path):
        raise ValueError(f"configs/{path.name} has the variants {', '.join(list_variants(path))}, not {variant!r}")
    return runpy.run_path(str(path.with_name(f"{path.stem}_{variant}.py")))["get_config"]()


def base_config(model: str, **options: Any) -> ConfigDict:
    """Return a config with the default of every field, for a network and its options; `stages` is for the recipe."""
    return to_config_dict(with_defaults({"model": {"name": model, **options}}))


def stage(
    epochs: int, *, schedule: Mapping[str, Any], optimizer: Mapping[str, Any] | None = None, **fields: Any
) -> Any:
    """Return a stage of training.

    Args:
        epochs: its length.
        schedule: of the learning rate: `constant`, `cosine`, `step` or `milestones`.
        optimizer: `adam` or `sgd`; None for `adam()`.
        fields: others of `STAGE_FIELDS`, as crop=128.
    """
    tree = {
        "stages": [{"epochs": epochs, **fields, "optimizer": dict(optimizer or adam()), "schedule": dict(schedule)}]
    }
    return to_config_dict(with_defaults(tree)).stages[0]


def adam(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> dict[str, Any]:
    """Return Adam's options."""
    return {"name": "adam", "b1": b1, "b2": b2, "eps": eps}


def sgd(*, momentum: float = 0.0) -> dict[str, Any]:
    """Return the options of stochastic gradient descent."""
    return {"name": "sgd", "momentum": momentum}


def constant(learning_rate: float) -> dict[str, Any]:
    """Return a constant learning rate."""
    return {"name": "constant", "learning_rate": learning_rate}


def cosine(learning_rate: float, *, warmup: int, unit: str = "steps") -> dict[str, Any]:
    """Return a linear rise from 0 in `warmup` steps or epochs, then a cosine to 0 at the stage's end."""
    return {"name": "cosine", "learning_rate": learning_rate, "warmup": warmup, "unit": unit}


def step(learning_rate: float, *, factor: float, every: int, unit: str = "epochs") -> dict[str, Any]:
    """Return a learning rate that is multiplied by `factor` every `every` steps or epochs."""
    return {"name": "step", "learning_rate": learning_rate, "factor": factor, "every": every, "unit": unit}


def milestones(learning_rate: float, *, factor: float, at: tuple[int, ...], unit: str = "epochs") -> dict[str, Any]:
    """Return a learning rate that is multiplied by `factor` at each of the steps or epochs `at`."""
    return {"name": "milestones", "learning_rate": learning_rate, "factor": factor, "at": at, "unit": unit}


def synthetic_photos(resize: int) -> dict[str, Any]:
    """Return an entry of `data.mixture`: synthetically blurred photographs, half of each batch (`make data/made`)."""
    return {
        "root": "data/made",
        "share": 0.5,
        "blur_variant": "blur",
        "resize": resize,
        "crop_scale": (1.0, 1.0),
        "zoom": (1.0, 1.0),
        "aspect_jitter": 1.0,
    }


def smoke(config: ConfigDict) -> ConfigDict:
    """Return the config shortened to one epoch per stage: minutes on a CPU. It trains nothing useful."""
    config.data.validation_sequences = ("GOPR0477_11_00",)
    config.data.update(batch_size=4, num_threads=2, epoch_images=0, mixture=())
    config.data.update(crop_scale=(1.0, 1.0), zoom=(1.0, 1.0), aspect_jitter=1.0)
    config.evaluation.batch_size = 4
    for stage in config.stages:
        stage.epochs = 1
        stage.encoder.frozen_epochs = 0
        stage.crop = 64 if stage.crop else 128
        if "warmup" in stage.schedule:
            stage.schedule.warmup = 0
    config.init.encoder = ""
    return config


def describe_fields(config: ConfigDict) -> list[tuple[str, Any, str]]:
    """Return path, value and description of every field of a config; the description of options is ''."""
    rows = []
    for path, value in flatten(to_plain(config)).items():
        name = path.split("].", 1)[1] if path.startswith("stages[") else path
        field = FIELDS.get(path) or (STAGE_FIELDS.get(name) if path.startswith("stages[") else None)
        value = tuple(value) if isinstance(value, list) else value
        rows.append((path, value, field.description if field else ""))
    return rows
