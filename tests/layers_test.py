"""Imports point downwards: a package imports only from lower layers, or from a neighbor that is listed."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.paths import ROOT

PACKAGE = ROOT / "jaxdeblur"
# From the top down.
LAYERS = (
    ("main", "predict", "video", "demo", "cli"),
    ("experiment",),
    ("config",),
    ("training", "evaluation", "report", "export"),
    ("restoration",),
    ("weights",),
    ("runs", "data", "synthesis"),
    ("images", "videos", "runtime"),
    ("models",),
    ("errors", "console", "files"),
)
LEVEL = {name: -level for level, names in enumerate(LAYERS) for name in names}
# What a package may import from its own layer.
NEIGHBORS = {
    ("cli", "main"),
    ("cli", "predict"),
    ("cli", "video"),
    ("cli", "demo"),
    ("report", "evaluation"),
    ("export", "evaluation"),
    ("training", "evaluation"),
    ("synthesis", "runs"),
    ("videos", "runtime"),
    ("files", "console"),
    ("files", "errors"),
}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("jaxdeblur."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jaxdeblur"):
            yield from ([node.module] if node.module != "jaxdeblur" else (f"jaxdeblur.{a.name}" for a in node.names))


def violations(source: str, targets: Iterator[str]) -> list[str]:
    """Return the imports of a package or module `source` that point upwards or to a neighbor that is not listed."""
    problems = []
    for target in targets:
        name = target.split(".")[1]
        if name not in LEVEL or name == source:
            continue
        if LEVEL[name] > LEVEL[source] or (LEVEL[name] == LEVEL[source] and (source, name) not in NEIGHBORS):
            problems.append(f"{source} -> {target}")
    return problems


def test_imports_point_downwards():
    problems = []
    for path in PACKAGE.rglob("*.py"):
        source = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if source != "__init__":
            problems += [f"{path.relative_to(ROOT)}: {line}" for line in violations(source, imports(path))]
    assert problems == []


def test_every_package_has_a_layer():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names - {"__init__"} == set(LEVEL)


def test_every_listed_neighbor_is_used():
    """A pair that no module uses any more is taken off the list."""
    used = {
        (path.relative_to(PACKAGE).with_suffix("").parts[0], target.split(".")[1])
        for path in PACKAGE.rglob("*.py")
        for target in imports(path)
    }
    assert used >= NEIGHBORS


def test_upward_imports_are_reported():
    assert violations("models", iter(["jaxdeblur.training.loop", "jaxdeblur.errors"])) == [
        "models -> jaxdeblur.training.loop"
    ]
    assert violations("data", iter(["jaxdeblur.synthesis.scenes"])) == ["data -> jaxdeblur.synthesis.scenes"]
