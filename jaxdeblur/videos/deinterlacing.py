"""Deinterlacing with FFmpeg's bwdif filter."""

from collections.abc import Iterator
from typing import Any


def deinterlace(frames: Iterator[Any]) -> Iterator[Any]:
    """Yield every frame; those marked as interlaced are deinterlaced."""
    graph = None
    for frame in frames:
        if graph is None and frame.interlaced_frame:
            graph = _bwdif_graph(frame)
        if graph is None:
            yield frame
            continue
        graph.vpush(frame)
        yield from _pull_all(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _pull_all(graph)


def _bwdif_graph(frame: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base),
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    bwdif = graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph


def _pull_all(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):  # needs another frame, or is at its end
            return
