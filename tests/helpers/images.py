"""Small images and pairs on disk."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def write_pairs(folder: Path, split: str, sequence: str, frames: int, *, side: int = 32, seed: int = 0) -> None:
    """Write pairs of smooth noise and its mean over five diagonal shifts, in GOPRO_Large's layout."""
    rng = np.random.default_rng([seed, len(split), *sequence.encode()])
    photo = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    for frame in range(1, frames + 1):
        left, top = rng.integers(2, 96 - side - 2, 2)
        shifted = [photo.crop((left + s, top + s, left + s + side, top + s + side)) for s in range(-2, 3)]
        blur = np.rint(np.mean([np.asarray(image, float) for image in shifted], axis=0)).astype(np.uint8)
        for variant, image in (("blur", Image.fromarray(blur)), ("sharp", shifted[2])):
            path = folder / split / sequence / variant / f"{frame:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def save_noise(path: Path, size: tuple[int, int] = (20, 24), **options) -> None:
    """Save noise of `size` (width, height), the same for all paths of one stem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.stem.encode())).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path, **options)


def smooth_image(height: int, width: int, dtype: type = np.uint8, *, seed: int = 0) -> np.ndarray:
    """Return smooth noise, (H, W, 3), in the full range of uint8 or uint16, or float in [0, 1]."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return image if dtype == np.uint8 else (image.astype(dtype) * 257 if dtype == np.uint16 else image / dtype(255))


def save_pair(folder: Path, frame: str = "1.png") -> tuple[Path, Path]:
    """Save the two images of a pair, equal to each other."""
    paths = (folder / "blur" / frame, folder / "sharp" / frame)
    for path in paths:
        save_noise(path)
    return paths


def replace_unseen(path: Path, content: bytes) -> None:
    """Change a file's content, but neither its size nor its time of change: a scan that knows it sees nothing."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
