"""What a program sets once, before its first computation: memory, the compilation cache, how much libraries log."""

import ctypes
import os
import pathlib
import platform
import shutil

import jax
from absl import logging

from brittle_jax import console
from brittle_jax.devices import DeviceGroup

# Of glibc's malloc.h; a value of -1 means never.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def set_up() -> None:
    """Turns the compilation cache on, quiets libraries, and says so where a GPU lies idle.

    On a CPU, too: the process keeps memory that it has freed, and a program of one device ends within its call.
    """
    logging.set_verbosity(logging.ERROR)
    keep_freed_memory()
    _run_cpu_programs_in_the_call()
    _enable_compilation_cache()
    _warn_of_idle_gpu()


def keep_freed_memory() -> None:
    """Lets the process keep memory that it has freed, for the next computation; before JAX has started its threads.

    On a CPU, XLA allocates what a program works in anew at each call, and glibc gives large blocks back to the system
    at once: a fifth of a training step went into getting them again, page by page (benchmarks/NOTES.md). What is free
    after a compilation, which may be gigabytes, is given back all the same. With another C library nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_MAX, 0)  # large blocks from the heap too,
        c_library.mallopt(_M_TRIM_THRESHOLD, -1)  # which does not shrink by itself,
        c_library.mallopt(_M_ARENA_MAX, 1)  # and which all threads share.

        def after_compiling(event: str, duration_secs: float, **others: object) -> None:
            del duration_secs, others
            if event.endswith("backend_compile_duration"):
                give_back_freed_memory()

        jax.monitoring.register_event_duration_secs_listener(after_compiling)


def give_back_freed_memory() -> None:
    """Returns to the system what is free of the memory that `keep_freed_memory` keeps."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _run_cpu_programs_in_the_call() -> None:
    """Has the call of a program wait for its end, on a CPU that is one device.

    Else JAX allocates what a program works in when it is asked for, and says that it is done before it has freed that:
    the process then keeps two of these blocks or more (benchmarks/NOTES.md). A call still returns early where an array
    that it takes is not there yet. With several devices, or once JAX has begun, the setting has no effect.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def _enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache folder."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    default = os.path.join(user_cache, "brittle_jax", "compiled")
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or default
    if "://" in folder:  # a bucket, which JAX reaches by itself
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
        console.warn(f"compiled programs are not kept between runs: {folder} cannot be written ({error})")
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
    """Returns whether an NVIDIA driver, or its tool, is on this machine."""
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None
