"""The device mesh, and the shardings of batches and states."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def create_mesh(devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Return a mesh with the single axis `data` of these devices; by default, of all devices of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,))


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of the state: replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def abstract(create: Callable[[], Any], mesh: jax.sharding.Mesh) -> Any:
    """Return the `jax.ShapeDtypeStruct`s of what `create` would return, replicated over the mesh."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)), jax.eval_shape(create)
    )


def to_devices(batch: Mapping[str, Any], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Return the global batch on the devices; each process passes its own part."""
    return {key: jax.make_array_from_process_local_data(sharding, part) for key, part in batch.items()}
