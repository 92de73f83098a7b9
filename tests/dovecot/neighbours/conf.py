"""Configuration of Dovecot's other plugins, in the words of the Dovecot at hand."""

from __future__ import annotations

import pytest
from harness import words
from harness.version import module_dir


def plugins(*names: str, protocol: str | None = None) -> str:
    """More mail plugins, for all services or for one."""
    if words.is_24():
        text = "mail_plugins {\n" + "".join(f"{name} = yes\n" for name in names) + "}\n"
    else:
        text = f"mail_plugins = $mail_plugins {' '.join(names)}\n"
    return f"protocol {protocol} {{\n{text}}}\n" if protocol else text


def settings(old: dict[str, str], new: str) -> str:
    """Settings of a plugin: 2.3's, and 2.4's as they stand in dovecot.conf."""
    if words.is_24():
        return new
    return "plugin {\n" + "".join(f"{key} = {value}\n" for key, value in old.items()) + "}\n"


def need(module: str, package: str) -> None:
    """Skip a test of a plugin that isn't installed, and say which."""
    if not (module_dir() / module).exists():
        pytest.skip(f"{package} is not installed, or not for this Dovecot")
