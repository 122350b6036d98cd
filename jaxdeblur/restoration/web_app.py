"""The page in the browser: uploads, the restored photograph and its download. Needs Gradio: pip install '.[demo]'."""

import argparse
import html
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.files import shorten_name
from jaxdeblur.images.arrays import upper_byte
from jaxdeblur.images.metadata import profile_colours
from jaxdeblur.images.photo import Photo, read_photo
from jaxdeblur.images.save import write_photo

if TYPE_CHECKING:
    import gradio

SHOWN_SIDE = 2560  # pixels; larger photographs are shown smaller, and saved at their own size


KEPT_SECONDS = 3600  # uploads and results


WAITING = 20  # photographs in the queue; one is restored at a time


@dataclass(frozen=True)
class Restored:
    """What the page shows of a photograph: before and after, a PNG at its own size, and words on it (Markdown)."""

    before: Image.Image
    after: Image.Image
    file: Path
    words: str


def restore_upload(
    path: Path, restorer: Callable[[np.ndarray], np.ndarray], folder: Path, *, max_megapixels: float
) -> Restored:
    """Restore an uploaded photograph.

    Args:
        path: the file; its name is the person's.
        restorer: a `restoration.Restorer`.
        folder: where the result is written, in a new folder of its own.
        max_megapixels: refuse larger ones.

    Raises:
        InputError: it is no photograph, damaged, too large, or of a kind that is refused; names the file alone.
    """
    try:
        photo = read_photo(path, max_megapixels=max_megapixels)
        start = time.monotonic()
        result = replace(photo, pixels=restorer(photo.pixels))
        seconds = time.monotonic() - start
        file = Path(tempfile.mkdtemp(dir=folder)) / shorten_name(path.stem, "_restored.png")
        lost = write_photo(result, file, "png", quality=100)
    except InputError as error:
        raise InputError(str(error).replace(f"{path.parent}{os.sep}", "")) from error
    except (MemoryError, OSError) as error:
        words = getattr(error, "strerror", None) or "there is not enough memory"
        raise InputError(f"{path.name}: cannot be restored ({words})") from error
    height, width = photo.pixels.shape[:2]
    facts = f"{width} x {height} pixels, restored in {seconds:.1f} s"
    notes = [*photo.notes, *lost]
    if max(height, width) > SHOWN_SIDE:
        notes.append(f"shown at {SHOWN_SIDE} pixels; the download has its own size")
    words = "".join(f"\n- {html.escape(note)}" for note in notes)
    return Restored(_to_screen(photo), _to_screen(result), file, f"**{facts}**\n{words}")


def _to_screen(photo: Photo) -> Image.Image:
    """Return 8-bit RGB of a side that a browser shows easily, with the photograph's colour profile."""
    pixels = photo.pixels if photo.pixels.dtype == np.uint8 else upper_byte(photo.pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    if profile_colours(photo.metadata.icc) == "RGB":  # that of a grey photograph fits no RGB
        image.info["icc_profile"] = photo.metadata.icc
    return image


def remove_old(folder: Path, now: float) -> None:
    """Remove results older than `KEPT_SECONDS`."""
    for path in folder.iterdir():
        if now - path.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def build_page(
    restorer: Callable[[np.ndarray], np.ndarray],
    folder: Path,
    name: str,
    *,
    max_megapixels: float,
    max_megabytes: float,
) -> "gradio.Blocks":
    """Return the page; arguments as those of `restore_upload`, and what the network is called."""
    import gradio

    def restore(upload: str) -> tuple[Any, ...]:
        remove_old(folder, time.time())
        try:
            restored = restore_upload(Path(upload), restorer, folder, max_megapixels=max_megapixels)
        except InputError as error:
            # Gradio shows messages as HTML.
            raise gradio.Error(html.escape(str(error)), duration=None, print_exception=False) from error
        file = gradio.DownloadButton("Download PNG", value=str(restored.file), visible=True)
        return gradio.ImageSlider((restored.before, restored.after), visible=True), file, restored.words

    def clear() -> tuple[Any, ...]:
        return gradio.ImageSlider(None, visible=True), gradio.DownloadButton(visible=False), ""

    with gradio.Blocks(title="jaxdeblur", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        gradio.Markdown(
            f"# Take motion blur out of a photograph\n\nNetwork: `{name}`. PNG, JPEG, WebP, TIFF, BMP, up to "
            f"{max_megabytes:g} MB and {max_megapixels:g} megapixels. Photographs go to no other machine than the one "
            "that this page comes from, and are removed there after an hour."
        )
        upload = gradio.File(label="Photograph", height=140)
        slider = gradio.ImageSlider(
            label="Before | after", format="png", interactive=False, max_height=720, buttons=["fullscreen"]
        )
        words = gradio.Markdown()
        download = gradio.DownloadButton("Download PNG", variant="primary", visible=False)
        shown = [slider, download, words]
        at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        work = upload.upload(clear, None, shown, **at_once).then(
            restore, upload, shown, concurrency_limit=1, show_progress_on=[slider], api_visibility="private"
        )
        for ended in (work.success, work.failure):  # the field is empty again, for the next photograph
            ended(lambda: None, None, upload, **at_once)
    return page.queue(max_size=WAITING)


def launch(page: "gradio.Blocks", options: argparse.Namespace) -> None:
    """Start to serve the page, without anything of Gradio's that it does not need.

    Raises:
        InputError: the address or the port cannot be had.
    """
    try:
        page.launch(
            server_name=options.host,
            server_port=options.port,
            share=False,
            max_file_size=int(options.max_megabytes * 2**20),
            ssr_mode=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"--host {options.host}, --port {options.port or '7860 to 7959'}: {error}") from error
