"""Published results of other projects, copied from `published.json`."""

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

from jaxdeblur.runs.typed_json import parse


@dataclasses.dataclass(frozen=True)
class OriginalResult:
    """A result of the original project. PSNR in dB, pooled over batches of 16 unless `network` is None.

    Attributes:
        name: as published.
        network: its name here; None for a network that this package does not have.
        psnr: as published.
        mse: None if not stated.
        parameters: None if not stated.
        protocol: those fields of `ProtocolKey` that are known.
        source: where the numbers are published.
    """

    name: str
    network: str | None
    psnr: float
    mse: float | None
    parameters: int | None
    protocol: dict[str, Any]
    source: str


@dataclasses.dataclass(frozen=True)
class FieldResult:
    """A result of another network on GOPRO's test split; None: not stated."""

    name: str
    psnr: float
    ssim: float
    parameters: str | None
    compute: str | None
    runtime: str | None
    blur_variant: str | None
    resolution: str | None
    source: str


@dataclasses.dataclass(frozen=True)
class Published:
    """The original project's results, and those of other networks in the field."""

    original: list[OriginalResult]
    field: list[FieldResult]


def read_published() -> Published:
    """Return the published results."""
    file = resources.files("jaxdeblur.report").joinpath("published.json")
    tree = json.loads(file.read_text(encoding="utf-8"))
    return parse(Published, tree, Path(str(file)), remedy="Reinstall jaxdeblur.")
