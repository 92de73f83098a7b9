"""Scenarios of several hosts. run.sh starts them, after what they need has been built."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--line", default="bookworm", help="which line's Dovecot the backends are")


@pytest.fixture(scope="session")
def line(request):
    """The line whose Dovecot runs on the backends."""
    return request.config.getoption("--line")
