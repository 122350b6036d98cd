"""The trained networks that ship with the package, and what a value of `--weights` stands for.

Nothing here imports JAX: listing the networks is immediate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxdeblur.errors import InputError

FOLDER = Path(__file__).parent
# Of the option --weights, wherever there is one.
WEIGHTS_HELP = "a shipped network's name, a run's folder, or a .safetensors; if not given, the default shipped network"


@dataclass(frozen=True)
class Score:
    """A score on images that the network has never seen.

    Attributes:
        data: the images, with their number and resolution.
        identity_psnr: mean PSNR of the blurred input, dB.
        psnr: mean PSNR of the network's 8-bit result, dB.
    """

    data: str
    identity_psnr: float
    psnr: float

    def __str__(self) -> str:
        gain = self.psnr - self.identity_psnr
        return f"{self.data}: {self.identity_psnr:.2f} -> {self.psnr:.2f} dB ({gain:+.2f})"


@dataclass(frozen=True)
class ShippedNetwork:
    """A trained network that ships.

    Attributes:
        name: as `--weights` takes it, alone for the highest version.
        version: of the weights, from 1; other weights get another version.
        network: a key of `MODELS`.
        file: the `.safetensors`, in this package's folder.
        description: one line.
        parameters: their number.
        scores: with data and protocol; () until measured.
        licence: of the weights, with a note on the training data.
        is_default: it is used where no weights are given.
    """

    name: str
    version: int
    network: str
    file: Path
    description: str
    parameters: int
    scores: tuple[Score, ...]
    licence: str
    is_default: bool = False

    @property
    def full_name(self) -> str:
        """NAME@VERSION."""
        return f"{self.name}@{self.version}"


SHIPPED: tuple[ShippedNetwork, ...] = (
    ShippedNetwork(
        name="nafnet-small",
        version=1,
        network="nafnet",
        file=FOLDER / "nafnet-small@1.safetensors",
        description="NAFNet at half resolution, for motion blur in photographs of any size on a CPU",
        parameters=2_071_956,
        scores=(
            Score("GOPRO_Large test, 3 frames of 3 scenes at 1280x720", 23.82, 24.57),
            Score("the same at 320x180", 26.86, 27.21),
        ),
        licence="Apache-2.0; trained on GOPRO_Large (CC BY 4.0) and openly licensed photographs, credited in NOTICE",
        is_default=True,
    ),
)


def resolve_weights(value: str | Path | None, *, shipped: Sequence[ShippedNetwork] = SHIPPED) -> Path:
    """Return the run's folder or `.safetensors` that a value of `--weights` stands for.

    Args:
        value: None for the default shipped network; NAME or NAME@VERSION of a shipped one, where a name alone is its
            highest version; else a path. A `Path` is always a path, and so is a string such as `./NAME`.
        shipped: the networks that ship.

    Raises:
        InputError: nothing of that name ships or exists, or the file of a shipped network is missing.
    """
    if value is None:
        return _installed_file(next(network for network in shipped if network.is_default))
    if isinstance(value, str) and (network := find_shipped(value, shipped=shipped)):
        return _installed_file(network)
    path = Path(value).expanduser()
    if not path.exists():
        names = ", ".join(network.full_name for network in shipped)
        raise InputError(
            f"{value}: no network of that name ships, and there is no such run folder or .safetensors file. "
            f"Shipped: {names}.",
            code="weights-not-found",
        )
    return path


def find_shipped(name: str, *, shipped: Sequence[ShippedNetwork] = SHIPPED) -> ShippedNetwork | None:
    """Return the shipped network called NAME or NAME@VERSION, of a name alone the highest version; None if none is."""
    found = [network for network in shipped if name in (network.name, network.full_name)]
    return max(found, key=lambda network: network.version, default=None)


def _installed_file(network: ShippedNetwork) -> Path:
    if not network.file.is_file():
        raise InputError(
            f"{network.file}: the weights of {network.full_name} are missing from this installation. Install jaxdeblur "
            "again, or give --weights a run's folder or a .safetensors file.",
            code="shipped-weights-missing",
        )
    return network.file
