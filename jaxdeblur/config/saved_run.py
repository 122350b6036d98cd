"""The config of an existing run as a config file: `--config=.../saved_run.py:<run's folder>`.

`--mode evaluate` reads a run's config this way, so that neither the recipe nor the command line of the training is
needed, and `--config.data.root=PATH` and the like still override single fields.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxdeblur.config.legacy import translate
from jaxdeblur.config.tree import Tree, to_config_dict, with_defaults
from jaxdeblur.files import read_json


def read_config(folder: Path) -> Tree:
    """Return the config of a run as plain values, with today's field names and defaults for fields it lacks.

    Raises:
        InputError: config.json is missing or corrupt.
    """
    return with_defaults(translate(read_json(folder / "config.json")))


def get_config(folder: str) -> ConfigDict:
    """Return the config of the run in `folder`, as a recipe would."""
    return to_config_dict(read_config(Path(folder)))
