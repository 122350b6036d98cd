"""A run's programs lower for GPUs and TPUs at the published size; this needs neither the device nor its compiler."""

import jax
import jax.numpy as jnp
import pytest

from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.restoration.forward import make_forward
from jaxdeblur.runs.train_state import create_train_state, init_variables
from jaxdeblur.runtime.sharding import abstract, batch_sharding, create_mesh
from jaxdeblur.training.step import make_train_step
from tests.helpers.configs import PLAIN_STAGE, plan

EVERYTHING = {
    **PLAIN_STAGE,
    "loss": "psnr",
    "accumulate": 2,
    "clip_norm": 1.0,
    "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup": 1, "unit": "epochs"},
}
FROZEN = {"frozen_epochs": 1, "lr_multiplier": 0.1}


def operand_types(program, platform, operations):
    """Return the element types of all operands and results of these operations in the lowered program."""
    text = program.lower(lowering_platforms=(platform,)).as_text()
    types = [line.rsplit(" : ", 1)[1] for line in text.splitlines() if any(name in line for name in operations)]
    return {tensor.split(">")[0].rsplit("x", 1)[1] for line in types for tensor in line.split("tensor<")[1:]}


@pytest.mark.parametrize(
    ("network", "dtype", "everything"),
    [
        ("transformnet", "float32", False),
        ("transformnet", "bfloat16", True),
        ("transformnet", "bfloat16", False),
        ("nafnet", "float32", False),
        ("nafnet", "bfloat16", True),
        ("resnetencdec", "float32", False),
        ("resnetencdec", "bfloat16", False),
        ("resnetencdec", "bfloat16", True),
    ],
)
def test_the_programs_lower_for_cuda_and_tpu(network, dtype, everything):
    """The original's training step, and one with every option; all convolutions are in the compute type."""
    mesh, model = create_mesh(), build_model(network, dtype=dtype, remat=everything)
    stage = EVERYTHING if everything else PLAIN_STAGE
    if everything and network in ENCODERS:
        stage = {**stage, "encoder": FROZEN}
    decay = 0.999 if everything else 0.0
    (stage,) = plan([stage], 100, encoder=ENCODERS.get(network, ""), ema_decay=decay)
    state = abstract(lambda: create_train_state(model, stage.tx, jax.random.key(0), ema=everything), mesh)
    images = jax.ShapeDtypeStruct((16, 256, 256, 3), jnp.uint8, sharding=batch_sharding(mesh))
    programs = [make_train_step(stage, mesh).trace(state, {"blur": images, "sharp": images})]
    if not everything:
        variables = abstract(lambda: init_variables(model, jax.random.key(0)), mesh)
        programs.append(make_forward(model).trace(variables, images))
    # NAFNet's 1x1 convolutions are matrix products; in other networks these rearrange weights, in float32.
    operations = ("stablehlo.convolution", *(["stablehlo.dot_general"] if network == "nafnet" else []))
    for program in programs:
        for platform in ("cuda", "tpu"):
            assert operand_types(program, platform, operations) == {{"float32": "f32", "bfloat16": "bf16"}[dtype]}
