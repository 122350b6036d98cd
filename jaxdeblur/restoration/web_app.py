"""The web page: upload a photo, compare it with the restored one, download the result. Needs Gradio."""

import dataclasses
import html
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.files import shorten_name
from jaxdeblur.images.arrays import upper_byte
from jaxdeblur.images.metadata import profile_colours
from jaxdeblur.images.photo import Photo, read_photo
from jaxdeblur.images.save import replace_pixels, write_photo

if TYPE_CHECKING:
    import gradio

MAX_DISPLAY_SIDE = 2560  # pixels; larger photos are shown downsized but saved at full size
RETENTION_SECONDS = 3600  # of uploads and results
MAX_QUEUE = 20  # waiting photos; one is restored at a time

RestoreImage = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class PageLimits:
    """The largest photo that is accepted, in megapixels and in megabytes of 2**20 bytes."""

    megapixels: float
    megabytes: float


@dataclasses.dataclass(frozen=True)
class RestoredUpload:
    """What the page shows: the photo before and after, a PNG at full size, and a caption in Markdown."""

    before: Image.Image
    after: Image.Image
    file: Path
    caption: str


def restore_upload(path: Path, restore: RestoreImage, folder: Path, *, max_megapixels: float) -> RestoredUpload:
    """Restore an uploaded photo.

    Args:
        path: the upload; its name was chosen by the user.
        restore: a `Restorer`.
        folder: the result is written to a new folder in it.
        max_megapixels: refuse larger photos.

    Raises:
        InputError: the file is not a photo, is corrupt, too large or of an unsupported kind; the message names the file
            without its folder.
    """
    try:
        photo = read_photo(path, max_megapixels=max_megapixels)
        start = time.monotonic()
        result = replace_pixels(photo, restore(photo.pixels), photo.alpha)
        seconds = time.monotonic() - start
        file = Path(tempfile.mkdtemp(dir=folder)) / shorten_name(path.stem, "_restored.png")
        losses = write_photo(result, file, "png", quality=100)
    except InputError as error:
        raise InputError(str(error).replace(f"{path.parent}{os.sep}", ""), code=error.code) from error
    except (MemoryError, OSError) as error:
        reason = getattr(error, "strerror", None) or "not enough memory"
        raise InputError(f"{path.name}: cannot be restored ({reason})", code="upload-failed") from error
    height, width = photo.pixels.shape[:2]
    notes = [*photo.notes, *losses]
    if max(height, width) > MAX_DISPLAY_SIDE:
        notes.append(f"shown at {MAX_DISPLAY_SIDE} pixels; the download has full size")
    caption = f"**{width} x {height} pixels, restored in {seconds:.1f} s**\n"
    caption += "".join(f"\n- {html.escape(note)}" for note in notes)
    return RestoredUpload(_to_display(photo), _to_display(result), file, caption)


def _to_display(photo: Photo) -> Image.Image:
    """Return the photo as 8-bit RGB with its colour profile, downsized if it is too large for a browser."""
    pixels = photo.pixels if photo.pixels.dtype == np.uint8 else upper_byte(photo.pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((MAX_DISPLAY_SIDE, MAX_DISPLAY_SIDE), Image.Resampling.LANCZOS)
    if profile_colours(photo.metadata.icc) == "RGB":  # a grey profile does not apply to RGB
        image.info["icc_profile"] = photo.metadata.icc
    return image


def remove_old(folder: Path, now: float) -> None:
    """Remove results older than `RETENTION_SECONDS`."""
    for path in folder.iterdir():
        if now - path.stat().st_mtime > RETENTION_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def build_page(restore_image: RestoreImage, folder: Path, network: str, limits: PageLimits) -> "gradio.Blocks":
    """Return the page.

    Args:
        restore_image: a `Restorer`.
        folder: for results.
        network: its name, for the page.
        limits: of uploads.
    """
    import gradio

    def restore(upload: str) -> tuple[Any, ...]:
        remove_old(folder, time.time())
        try:
            restored = restore_upload(Path(upload), restore_image, folder, max_megapixels=limits.megapixels)
        except InputError as error:
            # Gradio shows messages as HTML.
            raise gradio.Error(html.escape(str(error)), duration=None, print_exception=False) from error
        file = gradio.DownloadButton("Download PNG", value=str(restored.file), visible=True)
        return gradio.ImageSlider((restored.before, restored.after), visible=True), file, restored.caption

    def clear() -> tuple[Any, ...]:
        return gradio.ImageSlider(None, visible=True), gradio.DownloadButton(visible=False), ""

    with gradio.Blocks(title="jaxdeblur", analytics_enabled=False, delete_cache=(600, RETENTION_SECONDS)) as page:
        gradio.Markdown(
            f"# Deblur a photo\n\nNetwork: `{network}`. PNG, JPEG, WebP, TIFF, BMP, up to {limits.megabytes:g} MB and "
            f"{limits.megapixels:g} megapixels. Photos are sent only to the machine that serves this page, and are "
            "deleted there after an hour."
        )
        upload = gradio.File(label="Photo", height=140)
        slider = gradio.ImageSlider(
            label="Before | after", format="png", interactive=False, max_height=720, buttons=["fullscreen"]
        )
        caption = gradio.Markdown()
        download = gradio.DownloadButton("Download PNG", variant="primary", visible=False)
        outputs = [slider, download, caption]
        immediately: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        work = upload.upload(clear, None, outputs, **immediately).then(
            restore, upload, outputs, concurrency_limit=1, show_progress_on=[slider], api_visibility="private"
        )
        for finished in (work.success, work.failure):  # empties the field for the next photo
            finished(lambda: None, None, upload, **immediately)
    return page.queue(max_size=MAX_QUEUE)


def launch(page: "gradio.Blocks", host: str, port: int | None, limits: PageLimits) -> None:
    """Start serving the page, without Gradio's sharing, monitoring and footer.

    Args:
        page: see `build_page`.
        host: address to listen on.
        port: None for the first free one from 7860.
        limits: of uploads.

    Raises:
        InputError: the address or port cannot be used ("web-address").
    """
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            max_file_size=int(limits.megabytes * 2**20),
            ssr_mode=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"--host {host}, --port {port or '7860 to 7959'}: {error}", code="web-address") from error
