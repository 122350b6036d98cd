"""Pairs per second of every input pipeline, next to a PyTorch DataLoader that does the same work.

All pipelines run on the same cores, one after another in every round; the median over rounds is printed.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxdeblur.console import say
from jaxdeblur.data.array_records import open_prepared
from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.gopro.builder import GoproLarge
from jaxdeblur.data.mixture import Part
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.data.paired_folders import PairFiles, open_folder
from jaxdeblur.data.pipeline import BatchOptions, make_train_batches
from jaxdeblur.images.resize import resize_image
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.moving_patches import RegionRules

SIDE, BATCH_SIZE = 256, 16
WHOLE, CROPS = f"whole frames resized to {SIDE}x{SIDE}", f"random {SIDE}x{SIDE} crops of full frames"
RESIZED = InputOptions(resize=SIDE, resize_filter="bicubic", flip_and_rotate=False)
CROPPED = replace(RESIZED, resize=0)
VARIED = f"{SIDE}x{SIDE}, varied"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run(root: Path, rounds: int, seconds: float) -> list[dict]:
    """Return one row per pipeline: task, name, pairs per second of each round, bytes per pair on disk.

    Args:
        root: a folder in GOPRO_Large's layout; its `train` is read.
        rounds: number of timings per pipeline.
        seconds: duration of a timing.
    """
    with tempfile.TemporaryDirectory() as folder:
        routes = _jaxdeblur_routes(root, Path(folder)) + _pytorch_routes(root) + _varied_routes(root, Path(folder))
        rows = [{"task": task, "route": name, "bytes_per_pair": size, "rates": []} for task, name, size, _ in routes]
        for _ in range(rounds):
            for row, (_, _, _, start) in zip(rows, routes, strict=True):
                row["rates"].append(_pairs_per_second(start(), seconds))
    return rows


def run_synthetic_blur(root: Path, rounds: int) -> list[dict]:
    """Return one row per kind of synthetic blur: megapixels of output per second on one core, of each round.

    A sharp frame of `root` is exposed at 31 instants; reading and writing files is excluded. Needs OpenCV.
    """
    from jaxdeblur.synthesis.exposure import Exposure, make_pair, sample_motion
    from jaxdeblur.synthesis.sensor import Sensor

    photo = open_folder(root / "train", "blur", skip_invalid=False)[0]["sharp"]
    noisy = Sensor(highlight_gain=3.0, shot_noise=0.01, read_noise=0.001)
    kinds = {
        "camera motion": (0, Sensor(), ("blur",)),
        "camera motion, both variants": (0, Sensor(), ("blur", "blur_gamma")),
        "with saturation and noise": (0, noisy, ("blur",)),
        "with one moving region": (1, Sensor(), ("blur",)),
        "both variants, one region, saturation and noise": (1, noisy, ("blur", "blur_gamma")),
    }
    rows = []
    for name, (regions, sensor, variants) in kinds.items():
        exposure = Exposure(Shake(time_samples=31), RegionRules(count=regions), sensor, variants)
        rates = []
        for seed in range(rounds):
            motion = sample_motion(np.random.default_rng(seed), exposure, photo.shape[:2])
            start = time.perf_counter()
            height, width = make_pair(photo, motion, exposure)["sharp"].shape[:2]
            rates.append(height * width / 1e6 / (time.perf_counter() - start))
        rows.append({"kind": name, "rates": rates})
    return rows


def _pairs_per_second(batches: Iterator, seconds: float) -> float:
    for _ in range(2 * CORES + 2):  # batches read ahead before the timing
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH_SIZE
    return count / (time.perf_counter() - start)


def _jaxdeblur_routes(root: Path, folder: Path) -> list[tuple[str, str, float, Callable[[], Iterator]]]:
    files = open_folder(root / "train", "blur", skip_invalid=False)
    png_bytes = _png_bytes(files.pairs)
    routes = []
    for storage_format in ("256", "tiles", "full"):
        name = f"blur_{storage_format}"
        GoproLarge(config=name, data_dir=folder / storage_format, source=root, partial=True).download_and_prepare()
    tasks = ((WHOLE, RESIZED, ("256", "tiles")), (CROPS, CROPPED, ("tiles", "full")))
    for task, options, storage_formats in tasks:
        routes.append((task, "jaxdeblur, folder of PNGs", png_bytes, _stream(files, options)))
        for storage_format in storage_formats:
            source = _open_prepared(folder, storage_format, options)
            stored = _stored_bytes(folder, storage_format, source)
            routes.append((task, f"jaxdeblur, prepared {storage_format}", stored, _stream(source, options)))
    return routes


def _varied_routes(root: Path, folder: Path) -> list[tuple[str, str, float, Callable[[], Iterator]]]:
    """Return the pipelines with augmentation, over data that is already prepared."""
    files = open_folder(root / "train", "blur", skip_invalid=False)
    for i in range(0, len(files), -(-len(files) // 64)):
        for key in ("blur", "sharp"):
            path = folder / "mixed" / key / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(resize_image(files[i][key], SIDE, "bicubic")).save(path)
    mixed = open_folder(folder / "mixed", "blur", skip_invalid=False)
    colours = {"permute_channels": True, "gain": (0.5, 1.5)}
    windows, scaled = replace(RESIZED, zoom=(1.0, 2.0)), replace(CROPPED, zoom=(0.5, 1.0))
    kinds = {
        "prepared 256, permute_channels and gain": ("256", replace(RESIZED, **colours), False),
        f"prepared 256, half of it mixed in from {SIDE}x{SIDE} PNGs": ("256", RESIZED, True),
        "prepared tiles, resize 256, zoom (1.0, 2.0)": ("tiles", windows, False),
        f"the same, half of it mixed in from {SIDE}x{SIDE} PNGs": ("tiles", windows, True),
        "prepared tiles, crop 256, zoom (0.5, 1.0)": ("tiles", scaled, False),
    }
    routes = []
    for name, (storage_format, options, mixes) in kinds.items():
        source, parts = _open_prepared(folder, storage_format, options), [Part(mixed, RESIZED, 0.5, "mixed", "mixed")]
        stream = _stream(source, options, parts if mixes else ())
        routes.append((VARIED, name, _stored_bytes(folder, storage_format, source), stream))
    return routes


def _open_prepared(folder: Path, storage_format: str, options: InputOptions) -> PairSource:
    shape = {"resize": options.resize, "resize_filter": options.resize_filter, "full_frames": options.reads_windows}
    return open_prepared(folder / storage_format, blur_variant="blur", **shape)["train"]


def _stored_bytes(folder: Path, storage_format: str, source: PairSource) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{storage_format}/gopro_large/*/*/*-train*")) / len(source)


def _stream(source: PairSource, options: InputOptions, mixture: Sequence[Part] = ()) -> Callable[[], Iterator]:
    return lambda: make_train_batches(
        source,
        options,
        BatchOptions(crop=0 if options.resize else SIDE, batch_size=BATCH_SIZE, seed=0, num_threads=CORES),
        first_step=0,
        mixture=mixture,
    )


def _pytorch_routes(root: Path) -> list[tuple[str, str, float, Callable[[], Iterator]]]:
    """Return the DataLoader's pipelines; none without PyTorch."""
    try:
        import torch
    except ImportError:
        say("PyTorch is not installed: skipping its rows.")
        return []
    files = open_folder(root / "train", "blur", skip_invalid=False).pairs

    def load(path: Path, box: tuple[int, int, int, int] | None) -> torch.Tensor:
        image = Image.open(path)
        image = image.crop(box) if box else image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return torch.from_numpy((np.asarray(image, np.float32) / 255).transpose(2, 0, 1))

    class Pairs(torch.utils.data.Dataset):
        def __init__(self, crops: bool):
            self.crops = crops

        def __len__(self) -> int:
            return 10**6  # effectively endless: starting workers every epoch would slow PyTorch down

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            pair, box = files[index % len(files)], None
            if self.crops:
                top, left = (int(torch.randint(0, side - SIDE + 1, ())) for side in pair.size)
                box = (left, top, left + SIDE, top + SIDE)
            return load(pair.blur, box), load(pair.sharp, box)

    def start(crops: bool) -> Iterator:
        return iter(torch.utils.data.DataLoader(Pairs(crops), BATCH_SIZE, shuffle=True, num_workers=CORES))

    name = f"PyTorch DataLoader, {CORES} workers"
    png_bytes = _png_bytes(files)
    return [(WHOLE, name, png_bytes, lambda: start(False)), (CROPS, name, png_bytes, lambda: start(True))]


def _png_bytes(pairs: Sequence[PairFiles]) -> float:
    return float(np.mean([pair.blur.stat().st_size + pair.sharp.stat().st_size for pair in pairs]))
