"""Checkpoints of tiny states whose values follow from their step."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import optax

from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.train_state import TrainState


def make_state(step: int, size: int = 3) -> TrainState:
    """Return a state with one kernel of `size` values, step, step + 1, ..."""
    params = {"layer": {"kernel": jnp.arange(float(size)) + step}}
    state = TrainState.create(
        apply_fn=None, params=params, tx=optax.adam(0.1), batch_stats={"layer": jnp.ones(2) * step}
    )
    return state.replace(step=jnp.asarray(step))


def save_states(folder: Path, scores: Mapping[int, float | None], *, keep_latest: int = 2) -> Checkpoints:
    """Save a state per step and record its validation PSNR, if any."""
    checkpoints = Checkpoints(folder, keep_latest=keep_latest)
    for step, psnr in scores.items():
        checkpoints.save(make_state(step), {"stage": 0, "losses": [0.5, step]})
        if psnr is not None:
            checkpoints.record_validation(step, psnr)
    checkpoints.wait()
    return checkpoints
