"""One session on a GPU machine that is available for minutes: check, benchmark, then train with the time that is left.

    python tools/gpu_session.py --photographs photographs --output results
    python tools/gpu_session.py --photographs photographs --output results --parts synthesize train --seconds 300
    JAXDEBLUR_TINY=1 python tools/gpu_session.py --photographs photographs --output /tmp/results   # rehearsal on a CPU

Runs with the Python that starts it, from a checkout, without network access. Every part is a process with a time limit
and a log in --output; session.json is rewritten when a part ends, and a part that fails does not stop the others.

check:      `gpu_check.py`, at most 4 minutes.
synthesize: synthetic blur from --photographs on all CPU cores, in rounds until its time is over. It runs next to the
            check, whose time is spent compiling, and ends before the benchmark starts.
benchmark:  `benchmark_gpu.py`, at most 4 minutes.
train:      the shipped network from its weights on the synthetic blur, in bfloat16 if the check of its training passed,
            else in float32. A short run measures the speed, from which the length is set. Brings back the weights of
            the best epoch (trained.safetensors), the log and the scores.

Compiled programs and data stay in --work, so that a second session on the same machine starts faster.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TINY = os.environ.get("JAXDEBLUR_TINY", "") not in ("", "0")
PARTS = ("check", "synthesize", "benchmark", "train")
LIMITS_S = {"check": 120.0 if TINY else 235.0, "synthesize": 120.0, "benchmark": 120.0 if TINY else 235.0}
GRACE_S = 15.0  # to save and exit after SIGTERM
EPOCH_S = 30.0  # of training between two validations
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# Straight, smooth motion as in real recordings, with some noise; docs/synthetic_blur.md.
BLUR = "--variants blur --travel 3 50 --region_travel 3 50 --regions 2 --highlight_gain 1.5 --shot_noise 0.002 "
BLUR += "--read_noise 0.0005 --jitter 0.3 --pull 0.3 --jerks 0.2 --time_samples 51"
SIDE, CROP, BATCH = (64, 32, 2) if TINY else (320, 256, 32)
EXPOSURES = 2 if TINY else 4  # of each photograph per round
PROBE_STEPS = 2 if TINY else 40
TINY_FIELDS = {
    "init.network": "",
    "model.width": 4,
    "model.encoder_blocks": (1,),
    "model.middle_blocks": 1,
    "model.decoder_blocks": (1,),
}


class Session:
    """The parts of a session, their limits and results."""

    def __init__(self, options: argparse.Namespace):
        self.output, self.work, self.photographs = options.output.resolve(), options.work.resolve(), options.photographs
        self._end = time.monotonic() + options.seconds
        self._weights, self._extra = options.weights, options.fields
        self._facts: dict[str, Any] = {"tiny": TINY, "python": sys.version.split()[0], "cores": CORES, "parts": {}}
        for folder in (self.output, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(self.work / "programs"))
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.work / "inductor"))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    def note(self, part: str, **facts: Any) -> None:
        """Write what became of a part to session.json."""
        self._facts["parts"].setdefault(part, {}).update(facts)
        temporary = self.output / "session.json.tmp"
        temporary.write_text(json.dumps(self._facts, indent=1))
        temporary.replace(self.output / "session.json")

    def start(self, name: str, *arguments: str, nice: int = 0) -> subprocess.Popen:
        """Start a Python process of the checkout; its output goes to NAME.log."""
        command = ["nice", "-n", str(nice)] if nice and shutil.which("nice") else []
        with (self.output / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, sys.executable, *arguments], stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    def finish(self, process: subprocess.Popen, limit_s: float) -> int | None:
        """Wait for a process; return its exit status, None if it ran past the limit and was stopped."""
        try:
            return process.wait(timeout=max(limit_s, 0.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None

    def run(self, parts: Sequence[str]) -> None:
        """Run the parts in their order; synthesis runs next to the check."""
        began = time.monotonic()
        check = self._start_tool("gpu_check", "check") if "check" in parts else None
        if "synthesize" in parts:
            self._synthesize(min(LIMITS_S["synthesize"], self.left))
        if check:
            self.note("check", status=self.finish(check, began + LIMITS_S["check"] + 5 - time.monotonic()))
            self.note("check", seconds=round(time.monotonic() - began))
        if "benchmark" in parts:
            began = time.monotonic()
            benchmark = self._start_tool("benchmark_gpu", "benchmark")
            self.note("benchmark", status=self.finish(benchmark, LIMITS_S["benchmark"] + 5))
            self.note("benchmark", seconds=round(time.monotonic() - began))
        if "train" in parts:
            self._train()

    def _start_tool(self, tool: str, part: str) -> subprocess.Popen:
        budget = min(LIMITS_S[part] - 10, self.left - 5)
        tiny = ["--tiny", "--lanes", "1", "--networks", "transformnet"] if part == "check" else ["--tiny"]
        arguments = [f"tools/{tool}.py", "--output", str(self.output), "--budget", f"{max(budget, 1):.0f}"]
        return self.start(part, *arguments, *(tiny if TINY else []))

    def _synthesize(self, limit_s: float) -> None:
        """Make rounds of pairs until the time is over, with a tenth of the photographs each for validation and test.

        A photograph is in the same split in all rounds, which differ in the exposures.
        """
        end = time.monotonic() + limit_s
        suffixes = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
        names = sorted(path.stem for path in self.photographs.iterdir() if path.suffix.lower() in suffixes)
        every = min(10, max(len(names) // 2, 3))
        chosen = ["--validation", *names[::every], "--test", *names[every // 2 :: every]]
        longest, round_number = 0.0, len(list(self.work.glob("made_*.json")))
        while time.monotonic() + 1.2 * longest < end:
            began, folder = time.monotonic(), self.work / "round"
            arguments = ["tools/synthesize_blur.py", "photos", "--input", str(self.photographs), *BLUR.split()]
            arguments += ["--output", str(folder), "--side", str(SIDE), "--exposures", str(EXPOSURES)]
            arguments += ["--seed", str(round_number), "--workers", str(CORES)]
            process = self.start("synthesize", *arguments, *chosen, nice=19)
            status = self.finish(process, end - began)
            if status != 0:
                self.note("synthesize", status=status)
                break
            for scene in folder.glob("*/*/"):
                target = self.work / "made" / scene.parent.name / f"{scene.name}_{round_number}"
                target.parent.mkdir(parents=True, exist_ok=True)
                scene.rename(target)
            (folder / "made.json").replace(self.work / f"made_{round_number}.json")
            shutil.rmtree(folder)
            round_number += 1
            longest = max(longest, time.monotonic() - began)
            self.note("synthesize", rounds=round_number, seconds=round(time.monotonic() - (end - limit_s)))
            if TINY:
                break
        pairs = {
            split: len(list(self.work.glob(f"made/{split}/*/blur/*"))) for split in ("train", "validation", "test")
        }
        self.note("synthesize", pairs=pairs)

    def _train(self) -> None:
        """Measure the speed in a short run, then train as long as time is left."""
        began = time.monotonic()
        dtype = "bfloat16" if self._bfloat16_is_sound() else "float32"
        self.note("train", dtype=dtype)
        shutil.rmtree(self.work / "probe", ignore_errors=True)
        probe = self.start("probe", *self._training(self.work / "probe", dtype, PROBE_STEPS * BATCH, 1))
        self.note("train", probe_status=self.finish(probe, 0.4 * self.left))
        steps_per_s = last_metric(self.work / "probe" / "metrics.jsonl", "speed/steps_per_s")
        if not steps_per_s:
            self.note("train", status="the short run logged no speed; see probe.log")
            return
        overhead = time.monotonic() - began - PROBE_STEPS / steps_per_s  # start, validation, scores, report
        seconds = max(self.left - overhead - 2 * GRACE_S, 1.0)
        epoch_steps = PROBE_STEPS if TINY else max(int(steps_per_s * EPOCH_S), 1)
        epochs = 1 if TINY else max(int(0.85 * seconds * steps_per_s / epoch_steps), 1)
        self.note("train", steps_per_s=steps_per_s, epochs=epochs, steps=epochs * epoch_steps)
        workdir = self.work / f"run_{int(time.time())}"
        training = self.start("train", *self._training(workdir, dtype, epoch_steps * BATCH, epochs))
        self.note("train", status=self.finish(training, self.left - 2 * GRACE_S))
        (self.output / "run").mkdir(exist_ok=True)
        for source in (*workdir.glob("*.json*"), *workdir.glob("eval/*.json"), workdir / "report" / "report.html"):
            if source.exists():
                shutil.copy(source, self.output / "run" / source.name)
        arguments = ["tools/pack_weights.py", str(workdir), str(self.output / "trained.safetensors")]
        pack = self.start("pack", *arguments, "--name", "gpu-trained", "--version", "1", "--overwrite")
        self.note("train", packed=self.finish(pack, max(self.left, GRACE_S)), seconds=round(time.monotonic() - began))

    def _training(self, workdir: Path, dtype: str, epoch_images: int, epochs: int) -> list[str]:
        fields = {
            "data.root": self.work / "made",
            "data.batch_size": BATCH,
            "data.epoch_images": epoch_images,
            "data.num_threads": CORES,
            "data.cache_gib": 0.1 if TINY else 24.0,
            "evaluation.batch_size": BATCH,  # all images have one size
            "compute.dtype": dtype,
            "stages[0].epochs": epochs,
            "stages[0].crop": CROP,
            "stages[0].schedule.warmup": 0 if TINY else min(50, epoch_images * epochs // BATCH - 1),
            "log.every_steps": 1 if TINY else 20,
            **({"init.network": self._weights} if self._weights else {}),
            **(TINY_FIELDS if TINY else {}),
        }
        arguments = [f"--config.{name}={value}" for name, value in fields.items()]
        config = ["--config", str(ROOT / "configs" / "nafnet.py:finetune"), "--workdir", str(workdir)]
        return ["-m", "jaxdeblur.main", *config, *arguments, *self._extra]

    def _bfloat16_is_sound(self) -> bool:
        """Return whether the check of the shipped network's training passed; it trains in bfloat16."""
        path = self.output / "gpu_check.json"
        if not path.exists():
            return False
        checks = json.loads(path.read_text())["checks"]
        return any(
            (check["check"], check["network"], check["status"]) == ("training", "shipped", "passed") for check in checks
        )


def last_metric(path: Path, name: str) -> float | None:
    """Return the last value of a metric in a run's log; None if there is none."""
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    values = [line[name] for line in lines if name in line]
    return values[-1] if values else None


def main(command_line: Sequence[str] | None = None) -> None:
    """Run a session."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--output", type=Path, default=os.environ.get("OUT"), help="folder for results; default: $OUT")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "jaxdeblur_session")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--seconds", type=float, default=840.0, help="for everything (%(default)g)")
    parser.add_argument("--weights", help="start training from these instead of the shipped network")
    parser.add_argument("fields", nargs="*", help="after --: further fields of training, as --config.seed=1")
    options = parser.parse_args(command_line)
    if options.output is None:
        parser.error("--output or the environment variable OUT must name a folder")
    options.output = Path(options.output)
    if not options.photographs.is_dir():
        parser.error(f"--photographs: {options.photographs} is not a folder")
    options.photographs = options.photographs.resolve()
    session = Session(options)
    session.run(options.parts)
    print((session.output / "session.json").read_text())


if __name__ == "__main__":
    main()
