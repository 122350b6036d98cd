"""The trained networks that ship with the package, and how a value of `--weights` is resolved.

JAX is not imported, so that listing the networks takes no time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxdeblur.errors import InputError

FOLDER = Path(__file__).parent
# Help of the option --weights, wherever there is one.
WEIGHTS_HELP = (
    "a shipped network's name, a run's folder, a .safetensors file, or a PyTorch file of a known network such as "
    "NAFNet (default: the default shipped network)"
)


@dataclass(frozen=True)
class Score:
    """A score on images not seen in training.

    Attributes:
        data: the images: data set, number and resolution.
        identity_psnr: mean PSNR of the blurred input, dB.
        psnr: mean PSNR of the network's 8-bit output, dB.
    """

    data: str
    identity_psnr: float
    psnr: float

    def __str__(self) -> str:
        gain = self.psnr - self.identity_psnr
        return f"{self.data}: {self.identity_psnr:.2f} -> {self.psnr:.2f} dB ({gain:+.2f})"


@dataclass(frozen=True)
class ShippedNetwork:
    """A trained network that ships with the package.

    Attributes:
        name: for `--weights`; without a version, the highest one.
        version: of the weights, from 1.
        network: a key of `MODELS`.
        file: the `.safetensors`, in this package's folder.
        description: one line.
        parameters: number of parameters.
        scores: on unseen images; empty until measured.
        licence: of the weights, with a note on the training data.
        is_default: used if no weights are given.
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
            Score("GOPRO_Large test, 3 frames of 3 scenes at 1280x720", 23.82, 25.31),
            Score("the same at 320x180", 26.86, 27.32),
        ),
        licence="Apache-2.0; trained on GOPRO_Large (CC BY 4.0) and openly licensed photographs, credited in NOTICE",
        is_default=True,
    ),
)


def resolve_weights(value: str | Path | None, *, shipped: Sequence[ShippedNetwork] = SHIPPED) -> Path:
    """Return the run's folder or `.safetensors` file that a value of `--weights` refers to.

    Args:
        value: None for the default shipped network; NAME (its highest version) or NAME@VERSION of a shipped one;
            otherwise a path. A `Path` is always a path, as is a string such as `./NAME`.
        shipped: the catalogue.

    Raises:
        InputError: no such network ships and no such path exists, or a shipped network's file is missing.
    """
    if value is None:
        return _installed_file(next(network for network in shipped if network.is_default))
    if isinstance(value, str) and (network := find_shipped(value, shipped=shipped)):
        return _installed_file(network)
    path = Path(value).expanduser()
    if not path.exists():
        names = ", ".join(network.full_name for network in shipped)
        raise InputError(
            f"{value}: there is no shipped network, run folder or .safetensors file of this name. Shipped: {names}.",
            code="weights-not-found",
        )
    return path


def find_shipped(name: str, *, shipped: Sequence[ShippedNetwork] = SHIPPED) -> ShippedNetwork | None:
    """Return the shipped network NAME (its highest version) or NAME@VERSION; None if there is none."""
    versions = [network for network in shipped if name in (network.name, network.full_name)]
    return max(versions, key=lambda network: network.version, default=None)


def _installed_file(network: ShippedNetwork) -> Path:
    if not network.file.is_file():
        raise InputError(
            f"{network.file}: the weights of {network.full_name} are missing from this installation. Reinstall "
            "jaxdeblur, or give --weights a run's folder or a .safetensors file.",
            code="shipped-weights-missing",
        )
    return network.file
