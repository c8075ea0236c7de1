"""What a process does once before it computes: quiet libraries, a compilation cache that lasts."""

from __future__ import annotations

import os

from mt3.files import cache_directory


def start_jax() -> None:
    """Makes JAX keep what it compiles, so that a second start takes seconds less."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up messages off the terminal; call before it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
