"""Keeps the memory that a CPU computation frees for the next one: getting it from the system again takes longer.

XLA allocates the working memory of a program anew at each call on a CPU, and glibc returns large blocks to the system
at once: a fifth of a training step went into getting them back, page by page (benchmarks/NOTES.md).
"""

import ctypes
import platform

import jax

# Parameters of mallopt in glibc's malloc.h; -1 means never.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Makes the process keep the memory that it frees; call it before JAX starts its threads.

    What is free after a compilation, which may be gigabytes, is given back to the system all the same. Without glibc
    this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    c_library = ctypes.CDLL(None)
    c_library.mallopt(_M_MMAP_MAX, 0)  # take large blocks from the heap too,
    c_library.mallopt(_M_TRIM_THRESHOLD, -1)  # do not shrink it,
    c_library.mallopt(_M_ARENA_MAX, 1)  # and let all threads share it

    def after_compiling(event: str, duration_secs: float, **others: object) -> None:
        del duration_secs, others
        if event.endswith("backend_compile_duration"):
            give_back_freed_memory()

    jax.monitoring.register_event_duration_secs_listener(after_compiling)


def give_back_freed_memory() -> None:
    """Returns free memory that `keep_freed_memory` has kept to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
