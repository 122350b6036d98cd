"""The checks of `gpu_check.py`, run in its worker processes: one function per check, each with its bounds.

A check yields `Row`s: what was measured, and the bound that it must keep (None: reported only). Errors are relative:
of outputs max|difference| / max|reference|, of gradients the L2 norm of the difference over that of the reference, over
all parameters together. The reference is plain float32 on the CPU, without this project's faster CPU convolutions.
"""

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_gpu import NAFNET_32

from jaxdeblur.config.run_config import parse_stage
from jaxdeblur.errors import InputError
from jaxdeblur.export.stablehlo import to_stablehlo
from jaxdeblur.images.arrays import to_float
from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.restoration.forward import make_forward
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.train_state import TrainState, init_variables
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.runtime.sharding import batch_sharding, create_mesh, replicated, to_devices
from jaxdeblur.training.stages import Stage, plan_stages
from jaxdeblur.training.step import make_train_step
from jaxdeblur.weights.load import TrainedNetwork, load_network
from jaxdeblur.weights.pretrained.catalogue import resolve_weights

SHIPPED = "shipped"  # the default network of the package, with its weights

# bfloat16 rounds to 8 significant bits, TF32 to 11, so that TF32's errors are about an eighth of bfloat16's; its bounds
# are a quarter. Gradients of networks with BatchNorm and ReLU change most: units near zero switch on and off.
OUTPUT_BOUNDS = {"float32": 1e-5, "TF32": 1.25e-2, "bfloat16": 5e-2}
GRADIENT_BOUNDS = {"float32": 1e-3, "TF32": 7.5e-2, "bfloat16": 3e-1}
EXPORT_BOUND = 1e-4  # of values in [0, 1]: a fortieth of an 8-bit level
TILE_BOUND = 1e-5
DETERMINISTIC = ("xla_gpu_exclude_nondeterministic_ops", "xla_gpu_deterministic_ops")  # the newer name first
# Where operations cannot be made deterministic (XLA has no such gradient of max-pooling): in two steps, Adam with a
# learning rate of 1e-3 can move a parameter whose gradient's sign is noise by this much.
RESUME_BOUND = 4e-3


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: `bound` is the largest allowed value; None where it is reported only."""

    item: str
    value: float | str
    bound: float | None = None
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bound is kept; NaN never keeps one."""
        return self.bound is None or (isinstance(self.value, int | float) and self.value <= self.bound)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the checks compute on; `TINY` is for CPUs and checks this code, not a device.

    Attributes:
        networks: options of each network.
        side: of images whose results are compared with the CPU's, two at a time.
        train_side: of images in training.
        train_batch: images per step, by network.
        steps: training steps on the fixed batch.
        photo: height and width of the restored image.
        tiled: the same, of the image restored in tiles of `tile` with `overlap`.
        batch_limit: largest batch that is tried.
    """

    networks: Mapping[str, tuple[str, Mapping[str, Any]]]
    side: int
    train_side: int
    train_batch: Mapping[str, int]
    steps: int
    photo: tuple[int, int]
    tiled: tuple[int, int]
    tile: int
    overlap: int
    batch_limit: int


FULL = Sizes(
    networks={
        "nafnet-32": ("nafnet", NAFNET_32),
        SHIPPED: ("nafnet", {}),
        "transformnet": ("transformnet", {}),
        "resnetencdec": ("resnetencdec", {}),
        "unet": ("unet", {}),
        "msresnet": ("msresnet", {}),
    },
    side=128,
    train_side=256,
    train_batch={"nafnet-32": 32, SHIPPED: 32, "transformnet": 32, "resnetencdec": 16, "unet": 32, "msresnet": 16},
    steps=12,
    photo=(720, 1280),
    tiled=(512, 768),
    tile=256,
    overlap=192,
    batch_limit=4096,
)
TINY = Sizes(
    networks={
        "nafnet-32": (
            "nafnet",
            {**NAFNET_32, "width": 4, "encoder_blocks": (1, 1), "decoder_blocks": (1, 1)},
        ),
        "transformnet": ("transformnet", {"width": 4, "num_blocks": 1}),
        "resnetencdec": ("resnetencdec", {"width": 4, "stage_sizes": (1, 1, 1, 1)}),
        "unet": ("unet", {"width": 4, "num_levels": 2, "num_blocks": 1}),
        "msresnet": ("msresnet", {"width": 4, "num_blocks": 1}),
    },
    side=64,
    train_side=64,
    train_batch={},
    steps=6,
    photo=(72, 128),
    tiled=(128, 192),
    tile=64,
    overlap=32,
    batch_limit=4,
)


class Bench:
    """What all checks of a worker share: sizes, the device, networks with random weights, images."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.device = jax.local_devices()[0]
        self.cpu = jax.local_devices(backend="cpu")[0]
        self.mesh = create_mesh([self.device])

    def network(self, name: str, dtype: str = "float32") -> tuple[Any, Any]:
        """Return a network and its variables on the host; random ones differ from zero everywhere."""
        kind, options = self.sizes.networks.get(name, ("nafnet", {}))
        if name == SHIPPED:
            network = load_network(resolve_weights(None), dtype=dtype)
            return network.model, {"batch_stats": {}, **jax.tree.map(np.asarray, dict(network.variables))}
        model = build_model(kind, dtype=dtype, **options)
        return model, _random_variables(jax.eval_shape(lambda: init_variables(model, jax.random.key(0))))

    def images(self, batch: int, height: int, width: int) -> dict[str, np.ndarray]:
        """Return uint8 `sharp` (smooth noise) and `blur` (its mean over 9 columns), (B, H, W, 3)."""
        rng = np.random.default_rng([batch, height, width])
        coarse = rng.random((batch, -(-height // 4), -(-width // 4), 3), np.float32)
        sharp = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
        blur = np.mean([np.roll(sharp, shift, axis=2) for shift in range(-4, 5)], axis=0)
        return {"blur": _to_uint8(blur), "sharp": _to_uint8(sharp)}

    def stage(self, name: str, *, encoder: Mapping[str, float] | None = None, epoch: int = 10**6) -> Stage:
        """Return a stage of training as the recipes have it: Adam, Charbonnier, clipping, averaged parameters."""
        options = {
            "epochs": 2,
            "crop": 0,
            "loss": "charbonnier",
            "accumulate": 1,
            "clip_norm": 1.0,
            "encoder": {"frozen_epochs": 0, "lr_multiplier": 1.0, **(encoder or {})},
            "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
            "schedule": {"name": "constant", "learning_rate": 1e-3},
        }
        kind = self.sizes.networks.get(name, ("nafnet", {}))[0]
        return plan_stages([parse_stage(options)], epoch, encoder=ENCODERS.get(kind, ""), ema_decay=0.999)[0]

    def start(self, name: str, stage: Stage, dtype: str) -> TrainState:
        """Return a fresh training state on the device, with averaged parameters."""
        model, variables = self.network(name, dtype)

        def create(variables: Any) -> TrainState:
            average = jax.tree.map(jnp.copy, variables["params"])
            return TrainState.create(apply_fn=model.apply, tx=stage.tx, **variables, ema_params=average)

        return jax.jit(create, out_shardings=replicated(self.mesh))(jax.device_put(variables, self.device))


def _random_variables(shapes: Any) -> Any:
    """Return float32 variables without a zero among the kernels; initializing on the device would be compiled first.

    Scales of BatchNorm are near 1; those of NAFNet's residual branches, which training starts at 0, near 0.1.
    """
    rng = np.random.default_rng(0)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name == "var" or (name == "scale" and len(path) > 1 and "bn" in str(path[-2].key)):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        elif name in ("scale", "bias", "mean"):
            values = rng.normal(0.0, 0.1, leaf.shape)
        else:
            size = 0.3 if path[-2].key == "output" else 1.0  # a correction smaller than the image, as in practice
            values = rng.normal(0.0, size / math.sqrt(math.prod(leaf.shape[:-1])), leaf.shape)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.round(image * 255).astype(np.uint8)


def _output_error(actual: Any, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max())


def _gradient_error(actual: Any, expected: Any) -> float:
    def norm(tree: Any) -> float:
        return math.sqrt(sum(float(np.square(np.asarray(leaf, np.float64)).sum()) for leaf in jax.tree.leaves(tree)))

    return norm(jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, actual, expected)) / norm(expected)


def _finite(tree: Any) -> bool:
    return all(bool(np.isfinite(np.asarray(leaf, np.float32)).all()) for leaf in jax.tree.leaves(tree))


def check_device(bench: Bench, name: str) -> Iterator[Row]:
    """What is being checked, and that a program runs on it."""
    del name
    yield Row("device", bench.device.device_kind)
    yield Row("JAX", jax.__version__)
    stats = bench.device.memory_stats() or {}
    if "bytes_limit" in stats:
        yield Row("memory for programs", round(stats["bytes_limit"] / 2**30, 1), unit="GiB")
    total = float(jnp.ones((64, 64)).sum())
    yield Row("sum of 64x64 ones, error", abs(total - 64 * 64), 0.0)


def check_outputs(bench: Bench, name: str) -> Iterator[Row]:
    """Outputs and gradients against the CPU, in every precision."""
    side = bench.sizes.side
    batch = bench.images(2, side, side)
    model, variables = bench.network(name)
    arguments = (variables, to_float(batch["blur"]), to_float(batch["sharp"]))

    def functions(model: Any) -> tuple[Callable, Callable]:
        def forward(variables: Any, blur: jax.Array, sharp: jax.Array) -> jax.Array:
            del sharp
            return model.apply(variables, blur, train=False)

        def loss(params: Any, rest: Any, blur: jax.Array, sharp: jax.Array) -> jax.Array:
            prediction, _ = model.apply({**rest, "params": params}, blur, train=True, mutable=["batch_stats"])
            return jnp.mean(jnp.square(prediction - sharp))

        def gradients(variables: Any, blur: jax.Array, sharp: jax.Array) -> Any:
            return jax.grad(loss)(variables["params"], {"batch_stats": variables["batch_stats"]}, blur, sharp)

        return forward, gradients

    def compute(function: Callable, precision: str, device: jax.Device) -> Any:
        with jax.default_matmul_precision(precision):
            return jax.tree.map(np.asarray, jax.jit(function)(*jax.device_put(arguments, device)))

    plain = functions(model.clone(cpu_fast_conv=False))
    expected = [compute(function, "highest", bench.cpu) for function in plain]
    for precision, dtype in (("float32", "float32"), ("TF32", "float32"), ("bfloat16", "bfloat16")):
        matmul = "highest" if precision == "float32" else "default"
        forward, gradients = functions(model.clone(dtype=dtype))
        value = _output_error(compute(forward, matmul, bench.device), expected[0])
        yield Row(f"output, {precision}, error", value, OUTPUT_BOUNDS[precision])
        value = _gradient_error(compute(gradients, matmul, bench.device), expected[1])
        yield Row(f"gradient, {precision}, error", value, GRADIENT_BOUNDS[precision])


def check_training(bench: Bench, name: str) -> Iterator[Row]:
    """bfloat16 training on a fixed batch: falling loss, finite numbers, donation, memory. Needs a fresh process."""
    side, size = bench.sizes.train_side, bench.sizes.train_batch.get(name, 2)
    stage = bench.stage(name)
    state = bench.start(name, stage, "bfloat16")
    batch = to_devices(bench.images(size, side, side), batch_sharding(bench.mesh))
    start = time.perf_counter()
    program = make_train_step(stage, bench.mesh).lower(state, batch).compile()
    yield Row("compilation", round(time.perf_counter() - start, 1), unit="s")
    donated = jax.tree.leaves((state.params, state.opt_state))
    losses, finite, seconds = [], True, []
    for _ in range(bench.sizes.steps):
        start = time.perf_counter()
        state, loss, _ = program(state, batch)
        losses.append(float(loss))
        seconds.append(time.perf_counter() - start)
        finite = finite and math.isfinite(losses[-1])
    yield Row(f"loss after {len(losses)} steps / first loss", losses[-1] / losses[0], 1.0 - 1e-3)
    yield Row("NaN or Inf in loss, parameters, state", float(not (finite and _finite(state))), 0.0)
    kept = sum(not leaf.is_deleted() for leaf in donated)
    yield Row("buffers of the state not donated", float(kept), 0.0)
    yield Row(f"step of {size}x{side}x{side}, bfloat16", round(1e3 * float(np.median(seconds)), 1), unit="ms")
    yield from _memory_rows(bench, program)


def _memory_rows(bench: Bench, program: Any) -> Iterator[Row]:
    predicted = _predicted_bytes(program)
    if predicted is None:
        return
    yield Row("memory of a step, predicted", round(predicted / 2**20, 1), unit="MiB")
    stats = bench.device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:  # of the process, the compiler's autotuning included
        peak = stats["peak_bytes_in_use"]
        yield Row("peak memory of the process, reported", round(peak / 2**20, 1), unit="MiB")
        yield Row("reported / predicted", round(peak / predicted, 3))


def _predicted_bytes(program: Any) -> int | None:
    found = program.memory_analysis()
    if found is None:
        return None
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
        + found.generated_code_size_in_bytes
    )


def check_resume(bench: Bench, name: str) -> Iterator[Row]:
    """Two steps, a checkpoint, two steps; against two more steps from the checkpoint: the same numbers."""
    side = bench.sizes.side
    stage = bench.stage(name)
    batch = to_devices(bench.images(2, side, side), batch_sharding(bench.mesh))
    state = bench.start(name, stage, "float32")
    program, deterministic = _compile_deterministic(make_train_step(stage, bench.mesh).lower(state, batch))
    yield Row("deterministic operations", "yes" if deterministic else "not available")

    def two_steps(state: Any) -> Any:
        for _ in range(2):
            state, _, _ = program(state, batch)
        return state

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep_latest=1)
        state = two_steps(state)
        checkpoints.save(state, {})
        checkpoints.wait()
        step, blank = int(state.step), jax.tree.map(jnp.zeros_like, state)
        expected = jax.tree.map(np.asarray, two_steps(state))
        resumed = two_steps(checkpoints.restore(step, blank))
        checkpoints.close()
    pairs = zip(jax.tree.leaves(resumed), jax.tree.leaves(expected), strict=True)
    worst = max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in pairs)
    yield Row("resumed run, largest difference", worst, 0.0 if deterministic else RESUME_BOUND)


def _compile_deterministic(lowered: Any) -> tuple[Any, bool]:
    """Return the compiled program, and whether all its operations are deterministic."""
    for option in DETERMINISTIC:
        # jaxlib without the option, or an operation without a deterministic form: the exceptions have no common class.
        with contextlib.suppress(Exception):
            return lowered.compile({option: True}), True
    return lowered.compile(), False


def check_encoder(bench: Bench, name: str) -> Iterator[Row]:
    """A frozen encoder does not change until its epochs end; then it does. One program, with `lax.cond`."""
    side = bench.sizes.side
    stage = bench.stage(name, encoder={"frozen_epochs": 1, "lr_multiplier": 0.1}, epoch=2)
    batch = to_devices(bench.images(2, side, side), batch_sharding(bench.mesh))
    state = bench.start(name, stage, "bfloat16")
    encoder = ENCODERS[bench.sizes.networks[name][0]]
    program = make_train_step(stage, bench.mesh).lower(state, batch).compile()
    first = jax.tree.map(np.asarray, state.params)
    changed = []
    for _ in range(3):
        state, _, _ = program(state, batch)
        now = jax.tree.map(np.asarray, state.params)
        changed.append({part: _changed(first[part], now[part]) for part in first})
    frozen, thawed = changed[1], changed[2]
    others = [part for part in first if part != encoder]
    yield Row("frozen encoder, tensors changed", float(frozen[encoder]), 0.0)
    yield Row("rest of the network not trained meanwhile", float(not all(frozen[part] for part in others)), 0.0)
    yield Row("encoder not trained afterwards", float(not thawed[encoder]), 0.0)


def _changed(before: Any, after: Any) -> int:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return sum(not np.array_equal(a, b) for a, b in pairs)


def check_tiles(bench: Bench, name: str) -> Iterator[Row]:
    """Overlapping tiles against the whole image, float32."""
    model, variables = bench.network(name)
    image = bench.images(1, *bench.sizes.tiled)["blur"]
    results = []
    with jax.default_matmul_precision("highest"):
        for tile in (0, bench.sizes.tile):
            network = TiledNetwork(model, tile=tile, overlap=bench.sizes.overlap, devices=bench.device)
            results.append(network.predict(network.put(variables), image, 1))
    # TransformNet sees 55 pixels around each, fewer than overlaps cover; that is enough in the tiny sizes only roughly.
    bound = TILE_BOUND if bench.sizes is FULL else 0.1
    yield Row("tiles and whole image, error", _output_error(results[1], results[0]), bound)


def check_restoring(bench: Bench, name: str) -> Iterator[Row]:
    """Restoring a photograph as `jaxdeblur restore` does, against the CPU, in 8-bit levels."""
    model, variables = bench.network(name)
    image = bench.images(1, *bench.sizes.photo)["blur"][0]
    expected = Restorer(model, variables, device=bench.cpu)(image).astype(int)
    size = "x".join(map(str, bench.sizes.photo[::-1]))
    for precision, matmul, bound in (("float32", "highest", 1.0), ("TF32", "default", 2.0)):
        with jax.default_matmul_precision(matmul):
            restore = Restorer(model, variables, device=bench.device)
            difference = np.abs(restore(image).astype(int) - expected).max()
            yield Row(f"{size}, {precision}, largest difference", float(difference), bound, "levels of 255")
            seconds = []
            for _ in range(5):
                start = time.perf_counter()
                restore(image)
                seconds.append(time.perf_counter() - start)
            yield Row(f"{size}, {precision}, transfers included", round(1e3 * float(np.median(seconds)), 1), unit="ms")


def check_export(bench: Bench, name: str) -> Iterator[Row]:
    """The exported StableHLO program: lowered for CUDA, and run on the device at two sizes it was not traced for."""
    try:
        require("flatbuffers", "Exporting")
    except InputError as error:
        yield Row("not checked", str(error))
        return
    model, variables = bench.network(name)
    content = to_stablehlo(TrainedNetwork(name.replace("-", "_"), model, variables, "this check"))
    program = jax.export.deserialize(content)
    yield Row("not lowered for CUDA", float("cuda" not in program.platforms), 0.0)
    forward = make_forward(model)
    with jax.default_matmul_precision("highest"):
        placed = jax.device_put(variables, bench.device)
        for height, width in ((64, 96), (75, 53)):
            image = to_float(bench.images(1, height, width)["blur"])
            image = jax.device_put(image, bench.device)
            expected = np.clip(np.asarray(forward(placed, image)), 0, 1)
            difference = float(np.abs(np.asarray(program.call(image)) - expected).max())
            # The program was lowered with JAX's default precision: TF32 on a GPU.
            bound = EXPORT_BOUND if bench.device.platform == "cpu" else OUTPUT_BOUNDS["TF32"]
            yield Row(f"exported program at {width}x{height}, largest difference", difference, bound)


def check_largest_batch(bench: Bench, name: str) -> Iterator[Row]:
    """The largest batch of training crops that fits in bfloat16, by bisection from what XLA predicts.

    Rows appear as batches are tried, so that a time limit leaves the bracket found so far.
    """
    side = bench.sizes.train_side
    stage = bench.stage(name)
    limit = (bench.device.memory_stats() or {}).get("bytes_limit")
    step = make_train_step(stage, bench.mesh)
    first = bench.sizes.train_batch.get(name, 1)

    def run(size: int) -> int | None:
        """Return the predicted bytes of a step with this batch, which ran; None if it ran out of memory."""
        state = bench.start(name, stage, "bfloat16")
        batch = to_devices({key: np.zeros((size, side, side, 3), np.uint8) for key in ("blur", "sharp")}, sharding)
        try:
            program = step.lower(state, batch).compile()
            program(state, batch)[1].block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None
        return _predicted_bytes(program) or 0

    sharding = batch_sharding(bench.mesh)
    fits, too_large, size = 0, bench.sizes.batch_limit + 1, first
    per_image: float | None = None
    while too_large - fits > max(1, fits // 16):
        predicted = run(size)
        yield Row(f"batch {size}", "does not fit" if predicted is None else "fits")
        fits, too_large = (fits, size) if predicted is None else (size, too_large)
        if per_image is None and predicted and limit:
            per_image = predicted / size  # parameters included, so that the estimate is slightly low
            size = min(int(0.95 * limit / per_image), bench.sizes.batch_limit)
        elif too_large > bench.sizes.batch_limit:
            size = min(max(fits + 1, fits * 5 // 4), bench.sizes.batch_limit)
        else:
            size = (fits + too_large) // 2
        if not fits < size < too_large:
            break
    yield Row(f"largest batch of {side}x{side}, bfloat16", fits)


CHECKS: dict[str, Callable[[Bench, str], Iterator[Row]]] = {
    "device": check_device,
    "outputs": check_outputs,
    "training": check_training,
    "resume": check_resume,
    "frozen encoder": check_encoder,
    "tiles": check_tiles,
    "restoring": check_restoring,
    "export": check_export,
    "largest batch": check_largest_batch,
}
