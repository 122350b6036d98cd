"""Writes the records of runs without training or evaluation; run as a script, it times a report.

`python -m tests.helpers.report_records` writes three runs of 1,111 images at 256x256 and at 1280x720 and prints how
long their report takes.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jaxdeblur.evaluation.scoring import Evaluation, Sample
from jaxdeblur.evaluation.scoring import write_evaluation as write_evaluation_record
from jaxdeblur.files import write_json
from jaxdeblur.runs.records import ImageMetrics, ImageRecord, ProtocolRecord, SpeedRecord

DATE = "2026-11-24T10:00:00+00:00"
WHY = ("spread", "best", "median", "worst")


def image_record(sequence, frame, identity, psnr):
    """Return the record of one image from the PSNR of the input and of the network, which determine the rest."""
    network, blurry = (
        {
            **{"psnr": value, "psnr_uint8": value - 0.01, "ssim": value / 50, "ssim_matlab": value / 45},
            **{"lpips": None, "mae": 10 ** (-value / 20) / 2, "mse": 10 ** (-value / 10)},
        }
        for value in (psnr, identity)
    )
    return ImageRecord(sequence=sequence, frame=frame, **network, identity=ImageMetrics(**blurry))


def write_evaluation(folder, images, pictures, *, weights="0123abcd", step=3, **protocol):
    """Write `eval/<split>-<resolution>.json`, its samples and a scoring in the history.

    Args:
        folder: of the run.
        images: records.
        pictures: samples by (sequence, frame): why, and uint8 blur, prediction, sharp.
        weights: their SHA-256.
        step: of the checkpoint, or None.
        protocol: fields that differ from an evaluation of GOPRO_Large's test split at 256x256.
    """
    fields = {"data_set": "GOPRO_Large", "split": "test", "split_rule": "official", "blur_variant": "blur"}
    fields |= {"resolution": "256", "resize_filter": "bicubic", "number_of_images": len(images), "pairs_skipped": 0}
    fields |= {"weights_sha256": weights, "checkpoint_step": step, "weights": f"step {step}", "code_version": "0.1.0"}
    record = ProtocolRecord(**{**fields, "date": DATE, **protocol})
    samples = [Sample(*name, why, *arrays) for name, (why, *arrays) in pictures.items()]
    (folder / "eval").mkdir(exist_ok=True)
    speed = SpeedRecord(images_per_s=12.5, flops_per_image=2.5e9, devices="1 x cpu (cpu)")
    write_evaluation_record(folder / "eval" / f"{record.name}.json", record, Evaluation(images, samples), speed)
    if record.split == "test":
        keys = ("date", "resolution", "checkpoint_step", "weights_sha256")
        add_scoring(folder, {key: getattr(record, key) for key in keys})


def add_scoring(folder, entry):
    """Add an entry to the history of the test split."""
    path = folder / "eval" / "test_history.json"
    history = json.loads(path.read_text()) if path.exists() else []
    write_json(path, [*history, entry])


def write_facts(folder, *, network="unet", parameters=1234567, trained=True, initial="random", loss="mse", log=()):
    """Write `run.json` and, for a trained run, `config.json` and `metrics.jsonl`."""
    folder.mkdir(parents=True)
    facts = {"network": network, "parameters": parameters, "initial_weights": initial, "data_set": "GOPRO_Large"}
    facts |= {
        "pairs": {"train": 1600, "validation": 503, "test": 1111},
        "pairs_skipped": {"test": 0},
        "code_version": "0.1.0",
    }
    facts |= {"command": ["main.py", "--config", "configs/x y.py"], "python": "3.11.7", "jax": "0.10.2"}
    facts |= {"flax": "0.12.8", "optax": "0.2.8", "devices": "1 x cpu (cpu)", "steps_per_epoch": 100}
    write_json(folder / "run.json", {**facts, "trained": trained})
    if trained:
        write_json(folder / "config.json", {"seed": 17, "stages": [{"loss": loss, "epochs": 3}]})
        lines = log or [{"train/loss": 0.5}, {"validation/psnr": 22.0, "validation/identity_psnr": 21.0}]
        stamps = ({"step": i, "stage": 0, "epoch": i, "wall_s": 1800.0 * i} for i in range(1, len(lines) + 1))
        text = "".join(f"{json.dumps(s | line)}\n" for s, line in zip(stamps, lines, strict=True))
        (folder / "metrics.jsonl").write_text(text)


def draw(rng, height, width, strength):
    """Return uint8 blur, prediction and sharp: noise at several scales, its mean over shifts, and a mix of both."""
    sharp = np.zeros((height, width, 3))
    for size in (4, 16, 64):
        noise = Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
        sharp += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) / 3
    blur = np.mean([np.roll(sharp, shift, 1) for shift in range(-4, 5)], axis=0)
    prediction = blur + strength * (sharp - blur) + rng.normal(0, 2, sharp.shape)
    return [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (blur, prediction, sharp)]


def write_large_run(folder, seed, *, gain, resolutions=(("256", 256, 256), ("full", 720, 1280)), images=1111):
    """Write a run with scores of `images` images of eleven sequences and a few samples per resolution."""
    rng = np.random.default_rng(seed)
    steps = range(20000)
    log = [{"train/loss": 0.01 / (1 + i / 500) * rng.uniform(0.9, 1.1)} for i in steps]
    for i in range(0, len(log), 200):
        log[i] |= {"validation/psnr": 26 + gain * (1 - 2 ** (-i / 3000)), "validation/identity_psnr": 25.5}
    write_facts(folder, log=log)
    for resolution, height, width in resolutions:
        fixed = np.random.default_rng(7)
        names = [(f"GOPR{i % 11:04d}_11_00", f"{i:06d}") for i in range(images)]
        identity = fixed.normal(25.5, 3, images)
        effects = rng.normal(gain, 0.3, 11)
        records = [
            image_record(*name, float(identity[i]), float(identity[i] + effects[i % 11] + rng.normal(0, 0.4)))
            for i, name in enumerate(names)
        ]
        places = [(0, "spread"), (images // 4, "spread"), (images // 2, "spread"), (images - 1, "spread")]
        order = sorted(range(images), key=lambda i: records[i].gain_psnr)
        places += [(order[-1], "best"), (order[images // 2], "median"), (order[0], "worst")]
        pictures: dict = {}
        for place, why in places:
            known = pictures.get(names[place])
            drawn = known[1:] if known else draw(np.random.default_rng(place), height, width, 0.2 + gain / 4)
            pictures[names[place]] = ((*known[0], why) if known else (why,), *drawn)
        write_evaluation(folder, records, pictures, resolution=resolution)


def main():
    """Time a report of three runs."""
    from jaxdeblur.report import write_report

    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("first", "second", "third")]
        for seed, (run, gain) in enumerate(zip(runs, (0.1, 0.6, 1.2), strict=True)):
            write_large_run(run, seed, gain=gain)
        start = time.perf_counter()
        page = write_report(runs, Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "report")
        print(f"{time.perf_counter() - start:.1f} s, {page.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
