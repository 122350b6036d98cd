"""Writes synthetic data sets in GOPRO_Large's layout: `{train,validation,test}/<scene>/{blur,...,sharp}/<number>.png`.

`made.json` next to the splits records the source, the options and the version.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import write_json
from jaxdeblur.runs.environment import code_version
from jaxdeblur.synthesis.scenes import Scene
from jaxdeblur.synthesis.splits import SPLITS

SceneFacts = dict[str, Any]  # entries of `made.json`
Pairs = Iterator[dict[str, np.ndarray]]  # uint8 (H, W, 3) by folder name


def claim_output(output: Path) -> Path:
    """Return the temporary folder for an output that does not exist yet, and remove leftovers of an interrupted run.

    Raises:
        InputError: the output exists (code "output-exists").
    """
    if output.exists():
        raise InputError(
            f"{output} already exists; remove it to create it again, or choose another --output.", code="output-exists"
        )
    temporary = output.with_name(output.name + ".unfinished")
    shutil.rmtree(temporary, ignore_errors=True)
    return temporary


def write_data_set(
    output: Path,
    scenes: Sequence[Scene],
    splits: Mapping[str, str],
    make: Callable[[Scene, SceneFacts], Pairs],
    about: Mapping[str, Any],
    *,
    total: int | None,
    workers: int,
) -> dict[str, Any]:
    """Create a data set atomically (a folder that exists is complete) and return the content of its `made.json`.

    Args:
        output: folder to create.
        scenes: sources of the pairs; each becomes a sequence.
        splits: the split of each scene, by name.
        make: yields the pairs of a scene and records facts for `made.json`; called in threads.
        about: further entries of `made.json`.
        total: expected number of pairs, for the progress bar; None: unknown.
        workers: scenes processed at once; the data set does not depend on it.

    Raises:
        InputError: the output exists (code "output-exists") or is not writable ("output-not-written"), or scenes are
            unusable ("scenes-unusable"; all are listed).
    """
    temporary = claim_output(output)
    facts: dict[str, SceneFacts] = {scene.name: {"pairs": 0} for scene in scenes}
    try:
        temporary.mkdir(parents=True)
        problems = _make_scenes(temporary, scenes, splits, make, facts, total=total, workers=workers)
        if problems:
            heading = f"{len(problems)} of {len(scenes)} scene(s) cannot be used:"
            remedy = "Remove or replace them; small or short ones need other options."
            raise InputError(list_problems(heading, problems, remedy), code="scenes-unusable")
        metadata = {"version": code_version(), **about}
        metadata |= {split: {name: facts[name] for name in facts if splits[name] == split} for split in SPLITS}
        write_json(temporary / "made.json", metadata)
        temporary.replace(output)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror or error}). Choose another --output, or free disk space.",
            code="output-not-written",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return metadata


def _make_scenes(
    folder: Path,
    scenes: Sequence[Scene],
    splits: Mapping[str, str],
    make: Callable[[Scene, SceneFacts], Pairs],
    facts: dict[str, SceneFacts],
    *,
    total: int | None,
    workers: int,
) -> list[str]:
    """Write the pairs of all scenes, count them in `facts`, and return a line for every unusable scene."""
    stop = threading.Event()

    def write_scene(scene: Scene) -> str | None:
        scene_facts = facts[scene.name]
        try:
            for pair in make(scene, scene_facts):
                if stop.is_set():
                    break
                scene_facts["pairs"] += 1
                _write_pair(pair, folder / splits[scene.name] / scene.name, scene_facts["pairs"])
                bar.update()
        except InputError as error:
            named = str(error).startswith(str(scene.path))
            return str(error) if named else f"{scene.path}: {error}"
        return None

    with tqdm(total=total, desc="Blurring", unit="pair", disable=None) as bar, ThreadPoolExecutor(workers) as pool:
        try:
            return [problem for problem in pool.map(write_scene, scenes) if problem]
        except BaseException:  # including interrupts: the threads must be stopped too
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _write_pair(pair: dict[str, np.ndarray], folder: Path, number: int) -> None:
    for variant, image in pair.items():
        path = folder / variant / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Level 1 is several times faster than the default, for files a tenth larger.
        Image.fromarray(image).save(path, compress_level=1)
