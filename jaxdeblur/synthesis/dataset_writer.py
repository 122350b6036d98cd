"""Data sets that are made, in GOPRO_Large's layout: `{train,validation,test}/<scene>/{blur,...,sharp}/<number>.png`.

Beside the splits lies `made.json`: what the data set was made from, how, and by which version.
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
from jaxdeblur.synthesis.scenes import SPLITS, Scene

Facts = dict[str, float | str | list]
Pairs = Iterator[dict[str, np.ndarray]]


def clear_output(output: Path) -> Path:
    """Return the folder to work in until all is done, and remove what an interrupted run has left there.

    Raises:
        InputError: the output is there already.
    """
    if output.exists():
        raise InputError(f"{output} is there already; remove it to make it anew, or choose another --output.")
    unfinished = output.with_name(output.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    return unfinished


def write_data_set(
    output: Path,
    scenes: Sequence[Scene],
    splits: Mapping[str, str],
    make: Callable[[Scene, Facts], Pairs],
    about: Mapping[str, Any],
    *,
    total: int | None,
    workers: int,
) -> dict:
    """Make a data set in one piece: a folder that exists is complete. Return what its `made.json` says.

    Args:
        output: folder to make.
        scenes: what to make pairs from; each is one sequence.
        splits: the split of each scene, by name.
        make: yields the pairs of a scene, images by folder name, and notes facts for `made.json`; called in threads.
        about: further entries of `made.json`.
        total: number of pairs to expect, for the progress bar; None: unknown.
        workers: scenes made at once; the data set is the same for any number.

    Raises:
        InputError: the output exists or cannot be written, or scenes cannot be used (all of them are listed).
    """
    unfinished = clear_output(output)
    facts: dict[str, Facts] = {scene.name: {"pairs": 0} for scene in scenes}
    try:
        unfinished.mkdir(parents=True)
        problems = _make_scenes(unfinished, scenes, splits, make, facts, total=total, workers=workers)
        if problems:
            heading = f"{len(problems)} of {len(scenes)} scene(s) cannot be used:"
            remedy = (
                "Take them out of the folder or put good ones in their place; small or short ones need other settings."
            )
            raise InputError(list_problems(heading, problems, remedy))
        made = {"version": code_version(), **about}
        made |= {split: {name: facts[name] for name in facts if splits[name] == split} for split in SPLITS}
        write_json(unfinished / "made.json", made)
        unfinished.replace(output)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be made ({error.strerror or error}). Choose another --output, or make room."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return made


def _make_scenes(
    folder: Path,
    scenes: Sequence[Scene],
    splits: Mapping[str, str],
    make: Callable[[Scene, Facts], Pairs],
    facts: dict[str, Facts],
    *,
    total: int | None,
    workers: int,
) -> list[str]:
    """Write the pairs of all scenes, count them in `facts`, and return a line for every scene that cannot be used."""
    stop = threading.Event()

    def finish(scene: Scene) -> str | None:
        noted = facts[scene.name]
        try:
            for pair in make(scene, noted):
                if stop.is_set():
                    break
                noted["pairs"] += 1
                _write_pair(pair, folder / splits[scene.name] / scene.name, noted["pairs"])
                bar.update()
        except InputError as error:
            source = str(scene.source if isinstance(scene.source, Path) else scene.source[0].parent)
            return str(error) if str(error).startswith(source) else f"{source}: {error}"
        return None

    with tqdm(total=total, desc="Blurring", unit="pair", disable=None) as bar, ThreadPoolExecutor(workers) as pool:
        try:
            return [problem for problem in pool.map(finish, scenes) if problem]
        except BaseException:  # an interrupt as well: threads do not end by themselves
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _write_pair(pair: dict[str, np.ndarray], folder: Path, number: int) -> None:
    for variant, image in pair.items():
        path = folder / variant / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Level 1 writes several times as fast as the default, into files a tenth larger.
        Image.fromarray(image).save(path, compress_level=1)
