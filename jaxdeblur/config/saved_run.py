"""The config of an existing run as a config file: `--config=.../saved_run.py:<run's folder>`.

`--mode evaluate` reads a run's config this way, so that `--config.data.root=PATH` and the like set single fields of it
and neither the recipe nor the command line of the training is needed.
"""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict


def get_config(folder: str) -> ConfigDict:
    """Return the config in `<folder>/config.json`, in the form that config files have: tuples instead of lists."""
    tree = json.loads((Path(folder) / "config.json").read_text())
    stages = tuple(ConfigDict(_with_tuples(stage)) for stage in tree.pop("stages"))
    config = ConfigDict(_with_tuples(tree))
    config.stages = stages
    return config


def _with_tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _with_tuples(value) for key, value in tree.items()}
    return tuple(map(_with_tuples, tree)) if isinstance(tree, list) else tree
