"""Tests against a real Dovecot.

    /usr/bin/python3 -m pytest tests/dovecot -n 4 --dist loadscope [--plugin ours|packaged]

With `--plugin packaged` the same tests run against Dovecot's own plugin. Those
that are marked `packaged_defect` must fail there: that proves that they can.
"""

from __future__ import annotations

import imaplib
import os
import poplib
import smtplib
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
#: An assertion that fails there says as much as one of a test.
pytest.register_assert_rewrite("harness")

from harness import DovecotVersion, Instance, Store, available  # noqa: E402
from harness.version import NotHere  # noqa: E402
from harness.instance import running  # noqa: E402

#: What an expected failure may look like; anything else is a fault of the test.
HOW_A_SERVER_FAILS = (
    AssertionError,
    OSError,
    imaplib.IMAP4.error,
    poplib.error_proto,
    smtplib.SMTPException,
    pytest.fail.Exception,
)


def pytest_addoption(parser):
    parser.addoption(
        "--plugin",
        choices=("ours", "packaged"),
        default=os.environ.get("MAIL_CRYPT_PLUGIN", "ours"),
        help="the plugin that the tests are about (default: ours, as `make stage` left it)",
    )


def pytest_configure(config):
    plugin = config.getoption("--plugin")
    if not available(plugin):
        raise pytest.UsageError(
            f"plugin {plugin!r} is not there: run `make stage`, set MAIL_CRYPT_STAGE, "
            "or take --plugin packaged"
        )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--plugin") != "packaged":
        return
    line = DovecotVersion.installed().line
    for item in items:
        for mark in item.iter_markers("packaged_defect"):
            if mark.kwargs.get("on", line) != line:
                continue
            item.add_marker(
                pytest.mark.xfail(strict=True, reason=mark.args[0], raises=HOW_A_SERVER_FAILS)
            )
        for mark in item.iter_markers("packaged_refuses"):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


@pytest.fixture(scope="session")
def plugin(request):
    """The plugin that the tests are about."""
    return request.config.getoption("--plugin")


def _maker(default_plugin):
    made = []

    def make(**options) -> Instance:
        options.setdefault("plugin", default_plugin)
        instance = Instance(**options)
        made.append(instance)
        return instance.start()

    return make, made


def _close(made):
    """Close all, then complain: a log that nobody has looked at yet is looked at."""
    said = []
    for instance in made:
        instance.stop()
        said += instance.log.unexpected()
        instance.close()
    return said


@pytest.fixture
def dovecot(plugin):
    """Starts instances that live as long as the test: `dovecot(users=..)`."""
    make, made = _maker(plugin)
    yield make
    _close(made)


@pytest.fixture(scope="module")
def shared_dovecot(plugin):
    """Starts instances that live as long as the module's tests."""
    make, made = _maker(plugin)
    yield make
    said = _close(made)
    assert not said, "in the log at the end:\n" + "\n".join(said)


@pytest.fixture
def store():
    """A store for two instances to share."""
    with Store() as store:
        yield store


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """An alarm in a log that the test did not expect fails it."""
    for instance in running():
        _marks.setdefault(item.nodeid, {})[instance.run] = instance.log.mark()
    outcome = yield
    skip_if_not_here(outcome)
    said = []
    for instance in running():
        said += instance.log.unexpected()
        said += instance.log.leaked(instance.secrets())
        instance.log.forget_expectations()
    if said and outcome.excinfo is None:
        pytest.fail("unexpected in the server's log:\n" + "\n".join(said), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    """A fixture may ask for what this Dovecot hasn't got, too."""
    skip_if_not_here((yield))


def skip_if_not_here(outcome):
    """Skip what the Dovecot at hand doesn't have."""
    if outcome.excinfo is not None and issubclass(outcome.excinfo[0], NotHere):
        outcome.force_exception(pytest.skip.Exception(str(outcome.excinfo[1])))


#: test -> run folder of an instance -> the end of its log before the test
_marks: dict[str, dict[Path, int]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure comes with what the servers logged meanwhile."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when != "teardown":
        marks = _marks.get(item.nodeid, {})
        for instance in running():
            text = instance.log.text(marks.get(instance.run, 0))
            report.sections.append(
                (f"Dovecot's log, {instance.options.plugin}, {instance.run.name}", text)
            )


_started = time.monotonic()


def pytest_terminal_summary(terminalreporter):
    """The closing line, in the form that `cargo nextest` gives it."""
    stats = terminalreporter.stats
    count = {kind: len(stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped", "xfailed", "xpassed")}
    run = count["passed"] + count["failed"] + count["xfailed"] + count["xpassed"]
    parts = [f"{count['passed']} passed"]
    if count["xfailed"]:
        parts.append(f"{count['xfailed']} failed as expected")
    if count["failed"] or count["error"]:
        parts.append(f"{count['failed'] + count['error']} failed")
    parts.append(f"{count['skipped']} skipped")
    seconds = time.monotonic() - _started
    terminalreporter.write_line(
        f"     Summary [{seconds:8.3f}s] {run} tests run: {', '.join(parts)}"
    )


