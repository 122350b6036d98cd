"""Try a network on your photos in the browser. Needs Gradio: pip install '.[demo]'.

    jaxdeblur web

The page is served to this machine only, unless `--host` says otherwise, and loads nothing from other hosts.
"""

import argparse
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jaxdeblur.restoration.options import create_parser, exit_with, require_all
from jaxdeblur.restoration.web_app import PageLimits, build_page, launch
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.pretrained.catalogue import resolve_weights

PROG = "python -m jaxdeblur.demo"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = create_parser(prog, __doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only; 0.0.0.0: everyone)")
    add("--port", type=int, help="if not given, the first free one from 7860")
    add("--max_megapixels", type=float, default=50.0, help="refuse larger photos (%(default)g)")
    add("--max_megabytes", type=float, default=50.0, help="refuse larger files (%(default)g, of 2**20 bytes)")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers out of range.

    Raises:
        InputError: lists all of them ("web-options").
    """
    require_all(
        {
            f"--port: {options.port}, expected 1 to 65535": options.port is None or 1 <= options.port <= 65535,
            f"--max_megapixels: {options.max_megapixels}, expected more than 0": options.max_megapixels > 0,
            f"--max_megabytes: {options.max_megabytes}, expected more than 0": options.max_megabytes > 0,
        },
        code="web-options",
        remedy="Nothing was started.",
    )


def serve(options: argparse.Namespace) -> int:
    """Load the network and serve the page until Ctrl-C; return the exit status.

    Raises:
        InputError: the weights, a package or a free port is missing.
    """
    check_options(options)
    # Read by Gradio and huggingface_hub when they are imported.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # Gradio sends a request to itself when it has started
    require("gradio", "The page")
    from jaxdeblur.restoration.restorer import load_restorer
    from jaxdeblur.runtime.compilation import use_compilation_cache

    use_compilation_cache("")
    weights = resolve_weights(options.weights)
    restorer = load_restorer(weights)
    limits = PageLimits(megapixels=options.max_megapixels, megabytes=options.max_megabytes)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, so photos are removed
    with tempfile.TemporaryDirectory(prefix="jaxdeblur_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")
        results = Path(folder) / "results"
        results.mkdir()
        page = build_page(restorer, results, weights.name.removesuffix(".safetensors"), limits)
        launch(page, options.host, options.port, limits)
        print(f"The page is at {page.local_url} until Ctrl-C.", flush=True)
        page.block_thread()
    return 0


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> None:
    """Serve the page; exit with a message on user errors."""
    options = make_parser(prog).parse_args(arguments)
    with suppress(KeyboardInterrupt):
        exit_with(lambda: serve(options))


if __name__ == "__main__":
    main()
