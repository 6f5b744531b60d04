"""All training runs of these tests share one compilation cache."""

import pytest
from tiny_run import compilation_cache


@pytest.fixture(autouse=True, scope="package")
def _compilation_cache(cache_directory):
    with compilation_cache(cache_directory):
        yield
