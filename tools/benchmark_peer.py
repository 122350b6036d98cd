"""One contestant of a benchmark, in a separate process, which takes a step for every line it receives.

    python tools/benchmark_peer.py jaxdeblur train transformnet 2 256 256

It prints a line of JSON after its first step, one for each later step, and a last one with its peak memory: of the
whole process, and on Linux of the timed steps only, where each step's line has the resident memory too.
`benchmark_networks.py` starts several of them and alternates their steps, so that a slower machine slows all alike.

Tasks are `train` (Adam, MSE, the original's first stage) and `restore` (forward with running statistics), uint8 images
in; `restore` returns float32 images to the host. PyTorch's networks are channels-last.
"""

import argparse
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require

NETWORKS = ("transformnet", "resnetencdec")
PEERS = ("jaxdeblur", "PyTorch eager", "PyTorch compile")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PEAK_SIDE = 3072  # of the square matrices whose product measures the machine's peak


def make_images(batch: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Return uint8 noise, `blur` and `sharp`, (B, H, W, 3)."""
    rng = np.random.default_rng(0)
    shape = (batch, height, width, 3)
    return {name: rng.integers(0, 256, shape, np.uint8) for name in ("blur", "sharp")}


def start_jaxdeblur(task: str, network: str, images: dict[str, np.ndarray]) -> tuple[Callable[[], object], dict]:
    """Return a function that takes a step and waits for it, and its facts: compile seconds, FLOPs, device."""
    import jax
    import jax.numpy as jnp

    from jaxdeblur.config.recipes import load_recipe
    from jaxdeblur.config.run_config import parse_config
    from jaxdeblur.models import prefers_ynnpack_matmul
    from jaxdeblur.restoration.forward import make_forward
    from jaxdeblur.runs.train_state import create_train_state, init_variables
    from jaxdeblur.runtime.compilation import compile_program, use_compilation_cache
    from jaxdeblur.runtime.malloc import keep_freed_memory
    from jaxdeblur.runtime.sharding import batch_sharding, create_mesh, to_devices
    from jaxdeblur.training.stages import plan_stages
    from jaxdeblur.training.step import make_train_step

    keep_freed_memory()
    use_compilation_cache("")
    config = parse_config(load_recipe(network))
    model, mesh = config.model.build(), create_mesh(jax.local_devices()[:1])
    # Compiled for its FLOPs only: the compiler's count of the faster algorithms counts loop bodies once.
    plain_model = model.clone(cpu_fast_conv=False)
    facts = {"device": jax.local_devices()[0].device_kind}
    if task == "restore":
        variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
        restore = compile_program(make_forward(model), variables, jnp.asarray(images["blur"]), use_ynnpack_matmul=False)
        flops = make_forward(plain_model).lower(variables, jnp.asarray(images["blur"])).cost_analysis()["flops"]
        facts |= {"compile_s": restore.compile_seconds, "flops": flops}
        return lambda: np.asarray(restore.call(variables, jnp.asarray(images["blur"]))), facts
    stage = plan_stages(config.stages, steps_per_epoch=10**6)[0]
    state = jax.jit(lambda key: create_train_state(model, stage.tx, key))(jax.random.key(0))
    batch = to_devices(images, batch_sharding(mesh))
    program = compile_program(
        make_train_step(stage, mesh), state, batch, use_ynnpack_matmul=prefers_ynnpack_matmul(model)
    )
    plain_state = state.replace(apply_fn=plain_model.apply)
    flops = make_train_step(stage, mesh).lower(plain_state, batch).cost_analysis()["flops"]

    def step() -> None:
        nonlocal state
        state, loss, _ = program.call(state, batch)
        loss.block_until_ready()

    return step, facts | {"compile_s": program.compile_seconds, "flops": flops}


def start_pytorch(
    task: str, network: str, images: dict[str, np.ndarray], *, compiled: bool
) -> tuple[Callable[[], object], dict]:
    """Return a function that takes a step, and its facts: the device."""
    import torch
    import torch_networks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = {"transformnet": torch_networks.TransformNet, "resnetencdec": torch_networks.ResnetEncDec}[network]()
    module = module.to(device, memory_format=torch.channels_last)
    forward = torch.compile(module) if compiled else module

    def to_float(array: np.ndarray) -> torch.Tensor:
        # NCHW indices, NHWC in memory: channels-last.
        return torch.from_numpy(array).to(device).permute(0, 3, 1, 2).float() / 255

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if task == "restore":
        module.eval()

        def restore() -> np.ndarray:
            with torch.inference_mode():
                return forward(to_float(images["blur"])).permute(0, 2, 3, 1).cpu().numpy()

        return restore, {"device": device}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(forward(to_float(images["blur"])), to_float(images["sharp"]))
        loss.backward()
        optimizer.step()
        wait()

    return train, {"device": device}


def measure_peak() -> float:
    """Return XLA's best FLOP/s over several products of large float32 matrices."""
    import jax
    import jax.numpy as jnp

    product, matrix = jax.jit(jnp.matmul), jnp.ones((PEAK_SIDE, PEAK_SIDE))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * PEAK_SIDE**3 / min(seconds[1:])


def process_peak() -> int:
    """Return the process's peak resident memory in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # KiB on Linux
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_status(field: str) -> int:
    """Return a field of the process's status in bytes (Linux only)."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())[1])


def main() -> None:
    """Take steps until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contestants = parser.add_subparsers(dest="peer", required=True)
    contestants.add_parser("peak", help="measure the machine's peak FLOP/s instead")
    for peer in PEERS:
        steps = contestants.add_parser(peer)
        steps.add_argument("task", choices=("train", "restore"))
        steps.add_argument("network", choices=NETWORKS)
        steps.add_argument("size", type=int, nargs=3, metavar=("BATCH", "HEIGHT", "WIDTH"))
    options = parser.parse_args()
    if options.peer == "peak":
        print(json.dumps({"peak_flops": measure_peak()}), flush=True)
        return
    images = make_images(*options.size)
    if options.peer == "jaxdeblur":
        step, facts = start_jaxdeblur(options.task, options.network, images)
    else:
        require("torch", options.peer)
        compiled = options.peer == "PyTorch compile"
        step, facts = start_pytorch(options.task, options.network, images, compiled=compiled)
    step()
    print(json.dumps(facts), flush=True)
    step()  # allocations of the second step, such as the optimizer state, are not timed either
    before = process_peak()
    if STATUS.exists():
        RESET.write_text("5")  # resets the peak; proc(5)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        seconds = {"step_s": time.perf_counter() - start}
        print(json.dumps(seconds | ({"resident_bytes": read_status("VmRSS")} if STATUS.exists() else {})), flush=True)
    peaks = {"peak_bytes": max(before, process_peak())}
    if STATUS.exists():
        peaks["peak_step_bytes"] = read_status("VmHWM")
    print(json.dumps(peaks), flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
