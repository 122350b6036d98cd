"""The processes of `benchmark_gpu.py`: the device's peaks, and contestants that take steps when told to.

They answer on standard output in lines of JSON. A contestant imports its framework, waits for a line, compiles, takes
three steps and answers with facts (`first_s` until the first step's end); after every further line it answers with the
seconds per step of a round. Seconds end when the device has finished.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

# (batch, height, width, channels) of the depthwise layers of the published NAFNet of width 32: the largest, and the 28.
DEPTHWISE = {"first level": (32, 256, 256, 64), "last level": (32, 32, 32, 512)}
TINY_DEPTHWISE = {"tiny": (1, 16, 16, 8)}


def open_answers() -> Callable[[dict[str, Any]], None]:
    """Return the function that answers; what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda answer: print(json.dumps(answer), file=stream)


def measure_device(*, tiny: bool) -> None:
    """Answer with the device's matrix products, copy and depthwise convolutions, each as it is measured."""
    answer = open_answers()
    import jax

    answer({"device": jax.devices()[0].device_kind, "JAX": jax.__version__})
    for found in device_speeds(tiny=tiny):
        answer(found)
    answer({"end": True})


def device_speeds(*, tiny: bool) -> Iterator[dict[str, float]]:
    """Yield speeds by name."""
    import jax
    import jax.numpy as jnp

    side = 64 if tiny else 8192
    for name, dtype in (("bfloat16", jnp.bfloat16), ("TF32", jnp.float32)):
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)  # ones would draw less power
        seconds = _seconds(jax.jit(jnp.matmul), matrix, matrix)
        yield {f"matmul {name}, TFLOP/s": 2 * side**3 / seconds / 1e12}
    array = jnp.ones(2**10 if tiny else 2**28, jnp.float32)  # 1 GiB, read and written
    yield {"copy, GB/s": 2 * array.nbytes / _seconds(jax.jit(lambda x: x + 1), array) / 1e9}
    del array, matrix
    for place, shape in (TINY_DEPTHWISE if tiny else DEPTHWISE).items():
        yield from _depthwise_speeds(place, shape)


def _depthwise_speeds(place: str, shape: tuple[int, ...]) -> Iterator[dict[str, float]]:
    """Yield milliseconds of a 3x3 depthwise convolution in bfloat16: forward, and forward with both gradients."""
    import jax
    import jax.numpy as jnp

    from jaxdeblur.models.nafnet_layers import DepthwiseConv

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=x.shape[-1]
        )

    def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(jnp.float32)
        height, width = x.shape[1:3]
        taps = (padded[:, i : i + height, j : j + width] * kernel[i, j, 0] for i in range(3) for j in range(3))
        return sum(taps).astype(x.dtype)

    def layer(x: jax.Array, kernel: jax.Array) -> jax.Array:
        bias = jnp.zeros(x.shape[-1], jnp.float32)
        return DepthwiseConv(jnp.bfloat16).apply({"params": {"kernel": kernel, "bias": bias}}, x)

    x = jnp.ones(shape, jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, shape[-1]), jnp.bfloat16)
    for name, function in (("grouped convolution", grouped), ("shifted products", shifted), ("our layer", layer)):

        def both(x: jax.Array, kernel: jax.Array, function: Callable = function) -> Any:
            result, backward = jax.vjp(function, x, kernel)
            return result, backward(result)

        label = f"depthwise, {place} {'x'.join(map(str, shape))}, {name}"
        yield {f"{label}, forward, ms": 1e3 * _seconds(jax.jit(function), x, kernel)}
        yield {f"{label}, forward and backward, ms": 1e3 * _seconds(jax.jit(both), x, kernel)}


def _seconds(function: Callable, *arguments: Any) -> float:
    """Return the least seconds per call in three rounds of ten, after two calls."""
    import jax

    for _ in range(2):
        jax.block_until_ready(function(*arguments))
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(10):
            result = function(*arguments)
        jax.block_until_ready(result)
        rounds.append((time.perf_counter() - start) / 10)
    return min(rounds)


def contend(arguments: Sequence[str], networks: Mapping[str, tuple[str, Mapping[str, Any]]], *, round_s: float) -> None:
    """Be a contestant: (peer, task, network, precision, batch, height, width)."""
    answer = open_answers()
    peer, task, name, precision, *size = arguments
    start = start_jaxdeblur if peer == "jaxdeblur" else partial(start_pytorch, compiled=peer == "PyTorch compile")
    __import__("jax" if peer == "jaxdeblur" else "torch")
    sys.stdin.readline()
    begin = time.perf_counter()
    step, wait, facts = start(task, *networks[name], precision, tuple(map(int, size)))
    step()
    wait()
    facts["first_s"] = time.perf_counter() - begin
    for _ in range(2):  # what happens only once more, such as the optimizer's state, is not timed
        step()
    wait()
    begin = time.perf_counter()
    step()
    wait()
    count = max(1, min(1000, int(round_s / (time.perf_counter() - begin))))
    answer(facts)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        answer({"step_s": (time.perf_counter() - begin) / count})


def make_images(size: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Return uint8 noise, `blur` and `sharp`, (B, H, W, 3)."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (*size, 3), np.uint8) for name in ("blur", "sharp")}


def start_jaxdeblur(
    task: str, network: str, options: Mapping[str, Any], precision: str, size: tuple[int, int, int]
) -> tuple[Callable[[], None], Callable[[], None], dict[str, Any]]:
    """Return what takes a step, what waits for it, and facts: FLOPs before and bytes after optimization."""
    import jax

    from jaxdeblur.config.recipes import constant
    from jaxdeblur.config.recipes import stage as stage_recipe
    from jaxdeblur.config.run_config import parse_stage
    from jaxdeblur.models import build_model
    from jaxdeblur.restoration.forward import make_forward
    from jaxdeblur.runs.train_state import create_train_state, init_variables
    from jaxdeblur.runtime.sharding import batch_sharding, create_mesh, to_devices
    from jaxdeblur.training.stages import plan_stages
    from jaxdeblur.training.step import make_train_step

    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    model = build_model(network, dtype=dtype, cpu_fast_conv=False, **options)
    mesh = create_mesh(jax.local_devices()[:1])
    batch = to_devices(make_images(size), batch_sharding(mesh))
    if task == "restore":
        state = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
        lowered = make_forward(model).lower(state, batch["blur"])
    else:
        stage_options = stage_recipe(1, loss="mse", schedule=constant(1e-3)).to_dict()  # with Adam
        (stage,) = plan_stages([parse_stage(stage_options)], 10**6)
        state = jax.jit(lambda key: create_train_state(model, stage.tx, key))(jax.random.key(0))
        lowered = make_train_step(stage, mesh).lower(state, batch)
    program = lowered.compile()
    facts = {
        "flops": float((lowered.cost_analysis() or {}).get("flops", 0.0)),
        "bytes": float((program.cost_analysis() or {}).get("bytes accessed", 0.0)),
    }
    result: Any = None

    def step() -> None:
        nonlocal state, result
        if task == "restore":
            result = program(state, batch["blur"])
        else:
            state, result, _ = program(state, batch)

    return step, lambda: jax.block_until_ready(result), facts


def start_pytorch(
    task: str,
    network: str,
    options: Mapping[str, Any],
    precision: str,
    size: tuple[int, int, int],
    *,
    compiled: bool,
) -> tuple[Callable[[], None], Callable[[], None], dict[str, Any]]:
    """Return what takes a step, what waits for it, and facts: the version and the device."""
    import torch
    import torch_networks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    kinds = {
        "nafnet": torch_networks.NAFNet,
        "transformnet": torch_networks.TransformNet,
        "resnetencdec": torch_networks.ResnetEncDec,
    }
    module = kinds[network](**options).to(device, memory_format=torch.channels_last)
    forward = torch.compile(module) if compiled else module
    autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
    # NCHW by its indices, NHWC in memory: channels-last.
    images = {name: torch.from_numpy(array).to(device).permute(0, 3, 1, 2) for name, array in make_images(size).items()}

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if task == "restore":
        module.eval()

        def step() -> None:
            with torch.inference_mode(), autocast:
                forward(images["blur"].float() / 255)

    else:
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=device == "cuda")

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast:
                prediction = forward(images["blur"].float() / 255)
            loss = torch.nn.functional.mse_loss(prediction.float(), images["sharp"].float() / 255)
            loss.backward()
            optimizer.step()

    return step, wait, {"version": torch.__version__, "device": device}
