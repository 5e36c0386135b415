"""What a program sets once, before its first computation: memory, the compilation cache, verbosity of libraries."""

import os
import pathlib
import shutil

import jax
from absl import logging

from brittle_jax import console
from brittle_jax.devices import DeviceGroup
from brittle_jax.heap import keep_freed_memory


def set_up() -> None:
    """Quiets libraries, turns on the compilation cache, and warns if a GPU is idle.

    On a CPU the process also keeps the memory that it frees, and with a single device each call of a program waits for
    its end.
    """
    quiet_libraries()
    keep_freed_memory()
    _run_cpu_programs_in_the_call()
    _enable_compilation_cache()
    _warn_of_idle_gpu()


def quiet_libraries() -> None:
    """Lets libraries log errors only; to be called before they are imported."""
    logging.set_verbosity(logging.ERROR)


def _run_cpu_programs_in_the_call() -> None:
    """Makes the call of a program wait for its end, if the CPU is a single device.

    Otherwise JAX allocates the working memory of a program when it is called, and reports the program as done before
    that memory is freed: the process then holds two such blocks or more (benchmarks/NOTES.md). A call still returns
    early if one of its arguments is not ready. The setting has no effect with several devices, or once JAX has started.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def _enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache folder."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    default = os.path.join(user_cache, "brittle_jax", "compiled")
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or default
    if "://" in folder:  # a bucket, which JAX opens itself
        jax.config.update("jax_compilation_cache_dir", folder)
        return
    try:
        folder = pathlib.Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home folder
        jax.config.update("jax_compilation_cache_dir", None)
        console.warn(f"compiled programs are not kept between runs: cannot write to {folder} ({error})")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _warn_of_idle_gpu() -> None:
    wants_cpu = "cpu" in (jax.config.jax_platforms or "")
    if not wants_cpu and has_nvidia_gpu() and DeviceGroup().platform == "cpu":
        console.warn(
            "this machine has an NVIDIA GPU, but JAX runs on the CPU: pip install 'brittle-jax[cuda12]' to use it"
        )


def has_nvidia_gpu() -> bool:
    """Returns whether this machine has an NVIDIA driver or its tool, nvidia-smi."""
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None
