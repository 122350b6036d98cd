"""`pip install .` installs every package, data file and recipe, the command, and the licence files."""

import importlib
import tomllib

import pytest

from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_and_the_recipes_are_installed(project):
    packages = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("jaxdeblur/**/__init__.py")
    }
    setuptools = project["tool"]["setuptools"]
    assert set(setuptools["packages"]) == packages | {"jaxdeblur.configs"}
    assert setuptools["package-dir"] == {"jaxdeblur.configs": "configs"}


def test_every_data_file_is_installed(project):
    patterns = project["tool"]["setuptools"]["package-data"]
    installed = {
        path
        for package, names in patterns.items()
        for name in names
        for path in (ROOT / package.replace(".", "/")).glob(name)
    }
    data_files = {
        path for path in (ROOT / "jaxdeblur").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert installed == data_files


def test_the_command_and_the_licence_files_exist(project):
    module, name = project["project"]["scripts"]["jaxdeblur"].split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert project["project"]["license-files"] == ["LICENSE", "NOTICE"]
    for file in project["project"]["license-files"]:
        assert (ROOT / file).stat().st_size > 1000
