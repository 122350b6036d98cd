"""A page in the browser to try a network on one's own photographs. Needs Gradio: pip install '.[demo]'.

    python -m jaxdeblur.demo

The page is for this machine alone, unless `--host` says otherwise, and asks for nothing from anywhere else.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.restoration.web_app import build_page, launch
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP, resolve_weights

if TYPE_CHECKING:
    pass


PROG = "python -m jaxdeblur.demo"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", help=WEIGHTS_HELP)
    add("--host", default="127.0.0.1", help="address to listen at (%(default)s: this machine alone; 0.0.0.0: everyone)")
    add("--port", type=int, help="the first free one from 7860 on, if none is named")
    add("--max_megapixels", type=float, default=50.0, help="refuse larger photographs (%(default)g)")
    add(
        "--max_megabytes", type=float, default=50.0, help="refuse larger files (%(default)g; a megabyte is 2**20 bytes)"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        InputError: lists all of them.
    """
    checks = {
        f"--port: {options.port}, expected 1 to 65535": options.port is None or 1 <= options.port <= 65535,
        f"--max_megapixels: {options.max_megapixels}, expected more than 0": options.max_megapixels > 0,
        f"--max_megabytes: {options.max_megabytes}, expected more than 0": options.max_megabytes > 0,
    }
    if problems := [words for words, good in checks.items() if not good]:
        raise InputError(list_problems("The command line:", problems, "Nothing was started."))


def serve(options: argparse.Namespace) -> None:
    """Load the network and show the page until Ctrl-C.

    Raises:
        InputError: weights, a package or a free port is missing.
    """
    check_options(options)
    # Gradio reads these when it is imported, huggingface_hub too.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # Gradio asks itself whether it has started
    require("gradio", "The page")
    from jaxdeblur.restoration.restorer import load_restorer
    from jaxdeblur.runtime.compilation import use_compilation_cache

    use_compilation_cache("")
    weights = resolve_weights(options.weights)
    restorer = load_restorer(weights)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that photographs are removed
    with tempfile.TemporaryDirectory(prefix="jaxdeblur_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")
        results = Path(folder) / "results"
        results.mkdir()
        limits = {"max_megapixels": options.max_megapixels, "max_megabytes": options.max_megabytes}
        page = build_page(restorer, results, weights.name.removesuffix(".safetensors"), **limits)
        launch(page, options)
        print(f"The page is at {page.local_url} until Ctrl-C.", flush=True)
        page.block_thread()


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> None:
    """Serve the page; exit with a message if the user can mend what is wrong."""
    try:
        serve(make_parser(prog).parse_args(arguments))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
