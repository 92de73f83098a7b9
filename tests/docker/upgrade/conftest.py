"""An upgrade under an installed plugin. run.sh starts it, with the image that it needs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--target", default="mail-crypt-target-upgrade", help="the volume for what cargo makes")


@pytest.fixture(scope="session")
def target(request):
    """The volume that is kept between runs."""
    return request.config.getoption("--target")
