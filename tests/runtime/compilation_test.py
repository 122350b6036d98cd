"""Compiled programs: FLOP counts, CPU options and the compilation cache."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.runtime import compilation
from jaxdeblur.runtime.compilation import compile_program, use_compilation_cache
from tests.helpers.images import save_noise


def test_a_compiled_program_computes_the_function_and_counts_its_flops():
    program = compile_program(
        jax.jit(jnp.matmul), jax.ShapeDtypeStruct((8, 16), jnp.float32), jnp.ones((16, 4)), use_ynnpack_matmul=False
    )
    left = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    np.testing.assert_allclose(program.call(left, np.ones((16, 4), np.float32)), left @ np.ones((16, 4)), rtol=1e-5)
    assert program.flops == pytest.approx(2 * 8 * 16 * 4, rel=0.1)
    assert program.compile_seconds > 0


def test_the_flops_of_a_loop_include_all_iterations():
    """Three products of 8x16 and 16x16 matrices, of which XLA counts one."""
    looped = jax.jit(lambda x, w: jax.lax.scan(lambda total, part: (total + part @ w, None), x[0], x)[0])
    at_once = jax.jit(lambda x, w: (x @ w).sum(0))
    arguments = jax.ShapeDtypeStruct((3, 8, 16), jnp.float32), jax.ShapeDtypeStruct((16, 16), jnp.float32)
    program = compile_program(looped, *arguments, use_ynnpack_matmul=False, without_loop=at_once)
    assert program.flops == pytest.approx(3 * 2 * 8 * 16 * 16, rel=0.1)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the schedule is an option of CPUs")
def test_the_schedule_keeps_few_arrays_alive():
    """Each of the eight can be reduced before the next is computed: two live arrays instead of nine."""

    def total(x):
        parts = [jnp.sin(x @ (x + i)) for i in range(8)]
        return sum((part @ part).sum() for part in parts)

    program = compile_program(jax.jit(total), jax.ShapeDtypeStruct((256, 256), jnp.float32), use_ynnpack_matmul=True)
    assert program.call.memory_analysis().temp_size_in_bytes < 4 * 256 * 256 * 4


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="tests options of CPUs")
def test_an_unsupported_option_is_named_and_left_out(monkeypatch, capsys):
    monkeypatch.setattr(compilation, "_CPU_SCHEDULER", {"xla_cpu_no_such_option": "1"})
    compilation._cpu_options.cache_clear()
    try:
        program = compile_program(jax.jit(jnp.sin), jax.ShapeDtypeStruct((4,), jnp.float32), use_ynnpack_matmul=False)
    finally:
        compilation._cpu_options.cache_clear()
    np.testing.assert_allclose(program.call(np.zeros(4, np.float32)), np.zeros(4))
    assert "lacks the option xla_cpu_no_such_option=1" in capsys.readouterr().err


@pytest.fixture
def restored_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_cache_folder_is_configurable(tmp_path, monkeypatch, restored_cache):
    assert use_compilation_cache(str(tmp_path / "mine")) == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    assert use_compilation_cache("") == tmp_path / "jax"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert use_compilation_cache("") == tmp_path / "jaxdeblur" / "programs"


WITHOUT_HOME = """
import os, pwd, sys
from pathlib import Path
sys.stderr.reconfigure(line_buffering=True)
if sys.argv[1] == "unknown":  # such as a user id that /etc/passwd does not list
    def getpwuid(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")
    pwd.getpwuid = getpwuid
import jax
from jaxdeblur.data.file_scan import scan_files
from jaxdeblur.runtime.compilation import use_compilation_cache
assert use_compilation_cache("") is None
assert use_compilation_cache("") is None
assert jax.config.jax_compilation_cache_dir is None
folder = Path(sys.argv[2])
assert scan_files(folder, [folder / "a.png"])[folder / "a.png"].problem == ""
jax.jit(lambda x: x + 1)(1.0)
"""


@pytest.mark.parametrize("home", ["unknown", "/proc/none"])
def test_without_a_home_folder_nothing_is_cached_and_one_message_is_printed(tmp_path, home):
    save_noise(tmp_path / "a.png")
    environment = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {} if home == "unknown" else {"HOME": home}
    command = [sys.executable, "-c", WITHOUT_HOME, home, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No writable home folder for a cache") == 1
    assert "cannot cache the scan" not in done.stderr


def test_the_least_recently_used_programs_are_removed_from_a_full_cache(tmp_path, monkeypatch, restored_cache):
    folder = tmp_path / "jaxdeblur" / "programs"
    folder.mkdir(parents=True)
    for day, name in enumerate(("a-cache", "b-cache", "c-cache", "notes.txt")):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (day * 86400, 0))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "MAX_CACHE_BYTES", 250)
    use_compilation_cache("")
    assert sorted(path.name for path in folder.iterdir()) == ["b-cache", "c-cache", "notes.txt"]
    monkeypatch.setattr(compilation, "MAX_CACHE_BYTES", 0)
    use_compilation_cache(str(folder))  # a folder of the user's choice is not trimmed
    assert len(list(folder.iterdir())) == 3
