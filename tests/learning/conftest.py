"""Compilation is most of what these tests cost, and what is tested does not depend on its zeal."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
