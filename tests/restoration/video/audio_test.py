"""Sound is copied if the container supports it, else re-encoded or refused; languages, titles and flags are kept."""

import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video.job import plan_restoration
from jaxdeblur.restoration.video.restore import restore_video
from tests.helpers.videos import av, grey, read_video, restore

RATE = 48000
OPTIONS = {"settings": {}, "batch_size": 25, "progress": lambda done: None, "stop": lambda: False}


def write_sound(path, *codecs, layout="stereo", tracks=None, start=0, video_start=0):
    """Write one second of grey video with a 440 Hz tone in each audio stream.

    Args:
        path: of the file.
        codecs: of each audio stream.
        layout: of channels.
        tracks: metadata and disposition of each audio stream.
        start: first sample's time, in samples.
        video_start: first frame's time, in frames.
    """
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        streams = []
        for codec, (tags, flags) in zip(codecs, tracks or [({}, 0)] * len(codecs), strict=True):
            stream = output.add_stream(codec, rate=RATE)
            stream.codec_context.layout = layout
            stream.metadata.update(tags)
            if flags:
                stream.disposition = flags
            streams.append(stream)
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(grey(9 * i), format="rgb24")
            frame.pts, frame.time_base = video_start + i, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for stream in streams:
            context = stream.codec_context
            tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
            samples = np.tile(tone.astype(np.float32), (len(context.layout.channels), 1))
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            resampler = av.AudioResampler(context.format, layout, RATE, frame_size=context.frame_size or None)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(part))
            output.mux(stream.encode(None))
    return path


def read_sound(path, number=0):
    """Return the codec, packets, samples of the first channel, and times of the frames in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.dts is not None]
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", None, RATE)
        frames = list(container.decode(audio=number))
        parts = [part for frame in frames for part in resampler.resample(frame)]
        parts += resampler.resample(None)
        samples = np.concatenate([part.to_ndarray()[0] for part in parts])
        name = container.streams.audio[number].codec_context.codec.canonical_name
        return name, packets, samples, [float(frame.time) for frame in frames]


def pitch_of(samples):
    """Return the dominant frequency, in Hz, of the middle half second."""
    middle = samples[RATE // 4 : RATE // 4 + RATE // 2]
    return 2 * int(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax())


@pytest.mark.parametrize(
    ("codec", "source", "target", "expected"),
    [
        ("aac", ".mkv", ".mp4", "aac"),
        ("aac", ".ts", ".mp4", "aac"),
        ("aac", ".mp4", ".mkv", "aac"),
        ("mp3", ".avi", ".mp4", "mp3"),
        ("pcm_s16le", ".avi", ".mov", "pcm_s16le"),
        ("pcm_s16le", ".avi", ".mkv", "pcm_s16le"),
        ("libopus", ".mkv", ".webm", "opus"),
        ("flac", ".mkv", ".mp4", "flac"),
    ],
)
def test_sound_is_copied_if_the_container_supports_it(tmp_path, codec, source, target, expected):
    path = write_sound(tmp_path / f"in{source}", codec)
    job = plan_restoration(path, tmp_path / f"out{target}", 16)
    assert not [note for note in job.notes if "audio" in note]
    assert restore(path, tmp_path / f"out{target}")[0]
    before, after = read_sound(path), read_sound(tmp_path / f"out{target}")
    assert after[0] == before[0] == expected
    if source != ".ts":  # whose packets have additional headers
        assert b"".join(after[1]) == b"".join(before[1])
    assert len(after[2]) == pytest.approx(len(before[2]), abs=2100)
    assert pitch_of(after[2]) == 440


@pytest.mark.parametrize(
    ("codec", "layout", "source", "target", "expected"),
    [
        ("aac", "stereo", ".mp4", ".webm", "opus"),
        ("pcm_s16le", "stereo", ".avi", ".mp4", "aac"),
        ("pcm_s24le", "mono", ".mkv", ".mp4", "aac"),
        ("pcm_s16le", "stereo", ".mov", ".m4v", "aac"),
        ("libopus", "stereo", ".mkv", ".mov", "aac"),
        ("pcm_mulaw", "mono", ".avi", ".mkv", "flac"),
        ("ac3", "5.1(side)", ".mkv", ".webm", "opus"),
    ],
)
def test_sound_is_reencoded_if_the_container_does_not_support_it(tmp_path, codec, layout, source, target, expected):
    path = write_sound(tmp_path / f"in{source}", codec, layout=layout)
    job = plan_restoration(path, tmp_path / f"out{target}", 16)
    assert [note for note in job.notes if f"{target} does not support audio stream 1" in note]
    assert restore(path, tmp_path / f"out{target}")[0]
    name, _, samples, times = read_sound(tmp_path / f"out{target}")
    assert name == expected
    assert pitch_of(samples) == 440
    assert len(samples) == pytest.approx(RATE, abs=2100)
    assert times[0] == pytest.approx(0, abs=0.03)
    middle = samples[RATE // 4 : 3 * RATE // 4]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("target", [".mkv", ".webm"])  # copied, re-encoded
def test_sound_that_starts_late_stays_late(tmp_path, target):
    path = write_sound(tmp_path / "in.mkv", "pcm_s16le", start=RATE // 2)
    assert restore(path, tmp_path / f"out{target}")[0]
    assert read_sound(path)[3][0] == pytest.approx(0.5, abs=0.01)
    assert read_sound(tmp_path / f"out{target}")[3][0] == pytest.approx(0.5, abs=0.02)


# These are all that FFmpeg writes: WebM, for example, has no commentary flag.
@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        (".mkv", ".mkv", ("default", "comment", "original", "dub")),
        (".mkv", ".mp4", ("default", "comment", "dub")),
        (".mp4", ".mkv", ("default", "comment", "dub")),
        (".mkv", ".webm", ("default",)),
        (".mkv", ".mov", ("default",)),
        (".mkv", ".m4v", ("default",)),
    ],
)
def test_language_title_and_flags_are_kept_per_stream(tmp_path, source, target, kept):
    flags = ("original", "default", "comment", "dub")
    if source == ".mp4":
        flags = ("default", "comment", "dub")
    tracks = [
        ({"language": language, "title": f"Title {language}"}, av.stream.Disposition[flag])
        for language, flag in zip(("fra", "eng", "deu", "ita"), flags, strict=False)
    ]
    path = write_sound(tmp_path / f"in{source}", *["aac"] * len(flags), tracks=tracks)
    assert read_tracks(path) == [(tags["language"], tags["title"], flag.name) for tags, flag in tracks]
    job = plan_restoration(path, tmp_path / f"out{target}", 16)
    assert restore_video(job, lambda frames: frames, **OPTIONS)
    language = {"deu": "ger"} if target == ".mov" else {}  # QuickTime's code
    assert read_tracks(tmp_path / f"out{target}") == [
        (
            language.get(tags["language"], tags["language"]),
            None if target == ".m4v" else tags["title"],
            flag.name if flag.name in kept else None,
        )
        for tags, flag in tracks
    ]
    lost = [[tags["title"]] * (target == ".m4v") + [flag.name] * (flag.name not in kept) for tags, flag in tracks]
    notes = {number: note for number in range(1, 5) for note in job.notes if f"of audio stream {number}:" in note}
    assert notes.keys() == {number for number, items in enumerate(lost, start=1) if items}
    assert all(item in notes[number] for number, items in enumerate(lost, start=1) for item in items)


def read_tracks(path):
    """Return the language, title and flag of each audio stream."""
    with av.open(str(path)) as container:
        return [
            (
                stream.language,
                stream.metadata.get("title") or stream.metadata.get("name"),
                stream.disposition.name or None,
            )
            for stream in container.streams.audio
        ]


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs the ffprobe command")
def test_ffprobe_reads_languages_and_flags(tmp_path):
    flags = av.stream.Disposition
    tracks = [({"language": "fra"}, flags.default), ({"language": "deu"}, flags.comment)]
    path = write_sound(tmp_path / "in.mkv", "aac", "aac", tracks=tracks)
    assert restore(path, tmp_path / "out.mp4")[0]
    command = ["ffprobe", "-v", "error", "-select_streams", "a", "-of", "csv=p=0"]
    command += ["-show_entries", "stream_tags=language:stream_disposition=default,comment", str(tmp_path / "out.mp4")]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert lines == ["1,0,fra", "0,1,deu"]


def test_sound_that_cannot_be_decoded_is_refused(tmp_path):
    data = write_sound(tmp_path / "in.mkv", "aac").read_bytes()
    assert data.count(b"A_AAC") == 1
    (tmp_path / "in.mkv").write_bytes(data.replace(b"A_AAC", b"A_XYZ"))
    for suffix in (".mp4", ".webm", ".mkv"):
        with pytest.raises(InputError) as error:
            plan_restoration(tmp_path / "in.mkv", tmp_path / f"out{suffix}", 16)
        assert error.value.code == "video-audio-codec"


def test_sound_that_changes_layout_is_copied_or_refused(tmp_path):
    """Two concatenated MPEG-TS files, as in broadcasts."""
    first = write_sound(tmp_path / "a.ts", "aac", layout="stereo")
    second = write_sound(tmp_path / "b.ts", "aac", layout="mono", start=RATE, video_start=25)
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    assert restore(tmp_path / "in.ts", tmp_path / "out.mkv", batch_size=25)[0]
    assert [len(part) for part in read_video(tmp_path / "out.mkv")[:2]] == [50, 50]
    with pytest.raises(InputError) as error:
        restore(tmp_path / "in.ts", tmp_path / "out.webm", batch_size=25)
    assert error.value.code == "video-audio-changes"


def test_times_that_restart_are_refused(tmp_path):
    """Recordings that were concatenated without adapting their times."""
    data = write_sound(tmp_path / "a.ts", "aac").read_bytes()
    (tmp_path / "in.ts").write_bytes(3 * data)
    with pytest.raises(InputError) as error:
        restore(tmp_path / "in.ts", tmp_path / "out.mkv", batch_size=25)
    assert error.value.code == "video-times"


def test_corrupt_sound_is_dropped_and_reported(tmp_path):
    path = write_sound(tmp_path / "in.mkv", "flac")
    packet = read_sound(path)[1][5]
    data = path.read_bytes()
    path.write_bytes(data.replace(packet, b"\xff" * len(packet)))
    job = plan_restoration(path, tmp_path / "out.webm", 16)
    assert restore_video(job, lambda frames: frames, **OPTIONS)
    assert any("corrupt packets of sound" in note for note in job.notes)
    samples, times = read_sound(tmp_path / "out.webm")[2:]
    assert pitch_of(samples) == pytest.approx(440, abs=4)
    assert times[-1] > 0.9  # the rest keeps its time
