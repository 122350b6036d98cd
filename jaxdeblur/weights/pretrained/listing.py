"""`jaxdeblur weights`: lists the networks that ship with the package."""

import argparse
from collections.abc import Sequence

from jaxdeblur.errors import InputError
from jaxdeblur.weights.pretrained.catalogue import SHIPPED, ShippedNetwork, find_shipped, resolve_weights


def main(arguments: Sequence[str], *, prog: str) -> None:
    """List the shipped networks, or print the path of one network's file.

    Raises:
        InputError: no such network ships, or its file is missing.
    """
    parser = argparse.ArgumentParser(prog=prog, description="List the networks that ship with the package.")
    parser.add_argument("--path", metavar="NAME", help="print the path of this network's file (NAME or NAME@VERSION)")
    options = parser.parse_args(arguments)
    if options.path is None:
        print("\n\n".join(describe(network) for network in SHIPPED))
        return
    if find_shipped(options.path) is None:
        names = ", ".join(network.full_name for network in SHIPPED)
        raise InputError(
            f"--path: {options.path} is not a shipped network. Expected one of {names}.", code="not-shipped"
        )
    print(resolve_weights(options.path))


def describe(network: ShippedNetwork) -> str:
    """Return a description of a shipped network, a few lines."""
    size = f"{network.file.stat().st_size / 1e6:.1f} MB" if network.file.is_file() else "its file is missing"
    lines = [
        f"{network.full_name}{' (default)' if network.is_default else ''}: {network.description}",
        f"  network: {network.network}, {network.parameters:,} parameters, {size}",
        *(f"  PSNR, {score}" for score in network.scores),
        f"  licence: {network.licence}",
    ]
    return "\n".join(lines)
