"""The package on a Debian. run.sh starts it, with the image and the package that it needs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--line", default="bookworm", help="the line whose image it is")


@pytest.fixture(scope="session")
def line(request):
    """The line whose image it is."""
    return request.config.getoption("--line")
