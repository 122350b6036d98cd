"""What `pip install .` installs: every package, every file that they read, the recipes, the command, the notices."""

import importlib
import tomllib

import pytest

from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_installed_and_the_recipes_with_them(project):
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("jaxdeblur/**/__init__.py")
    }
    setuptools = project["tool"]["setuptools"]
    assert set(setuptools["packages"]) == found | {"jaxdeblur.configs"}
    assert setuptools["package-dir"] == {"jaxdeblur.configs": "configs"}


def test_every_file_that_is_no_module_is_installed(project):
    patterns = project["tool"]["setuptools"]["package-data"]
    installed = {
        path
        for package, names in patterns.items()
        for name in names
        for path in (ROOT / package.replace(".", "/")).glob(name)
    }
    found = {path for path in (ROOT / "jaxdeblur").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert installed == found


def test_the_command_is_a_function_and_the_notices_exist(project):
    module, name = project["project"]["scripts"]["jaxdeblur"].split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert project["project"]["license-files"] == ["LICENSE", "NOTICE"]
    for file in project["project"]["license-files"]:
        assert (ROOT / file).stat().st_size > 1000
