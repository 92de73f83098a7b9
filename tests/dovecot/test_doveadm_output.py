"""The packaged doveadm module and ours on one store: what they print is the same."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives import serialization
from harness import Store, UserConfig, words
from test_doveadm import FORMATS, cryptokey

PEM = re.compile(rb"-----BEGIN PRIVATE KEY-----\n[^-]*-----END PRIVATE KEY-----\n")


def in_any_order(out):
    """An output's lines, or JSON's objects, without their order."""
    return sorted(re.split(rb"\n|(?<=\}),", out.rstrip(b"]").lstrip(b"[")))


@pytest.fixture(scope="module")
def both(shared_dovecot, plugin):
    """The packaged plugin and the other one on one store."""
    with Store() as store:
        users = {"alice": UserConfig(), "many": UserConfig()}
        pair = [
            shared_dovecot(store=store, plugin=p, users=dict(users))
            for p in ("packaged", plugin)
        ]
        for user in users:
            pair[0].doveadm("mailbox", "create", "-u", user, "Work")
            for _ in range(1 if user == "alice" else 3):
                cryptokey(pair[0], "generate", "-f", "-U", user=user)
                cryptokey(pair[0], "generate", "-f", "Work", user=user)
        yield pair


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    "args",
    [("list", "*"), ("list", "-U"), ("generate", "*"), ("generate", "-U"), ("generate", "-U", "*")],
    ids=" ".join,
)
def test_output_is_the_packaged_one(both, args, fmt):
    packaged, ours = (cryptokey(d, *args, fmt=fmt).stdout for d in both)
    assert ours == packaged
    # The dict answers several keys in any order.
    packaged, ours = (cryptokey(d, *args, fmt=fmt, user="many").stdout for d in both)
    assert in_any_order(ours) == in_any_order(packaged)


@pytest.mark.parametrize("fmt", FORMATS)
def test_listing_nothing_works_and_says_so(both, fmt):
    packaged, ours = (cryptokey(d, "list", fmt=fmt) for d in both)
    assert ours.stdout == packaged.stdout
    (said,) = re.findall(rb"mailbox cryptokey list: .*", packaged.stderr)
    assert said in ours.stderr


@pytest.mark.parametrize("fmt", FORMATS)
def test_password_output_is_the_packaged_one(both, fmt):
    said = []
    for dovecot in both:
        done = [
            cryptokey(dovecot, "password", "-n", "first", fmt=fmt),
            cryptokey(dovecot, "password", "-o", "first", "-n", "second", fmt=fmt),
            cryptokey(dovecot, "password", "-o", "second", "-C", fmt=fmt),
        ]
        said.append([d.stdout for d in done])
    assert said[0] == said[1]


def test_an_exported_key_is_the_packaged_one(both):
    """The packaged module prints it into the column beside."""
    for args in (("-U",), ("Work",)):
        pems = [PEM.findall(cryptokey(d, "export", *args).stdout) for d in both]
        assert [len(found) for found in pems] == [1, 1]
        # 2.4's DER, and ours: the public point is compressed in one of them, OpenSSL takes both.
        keys = [serialization.load_pem_private_key(pem, None) for (pem,) in pems]
        assert keys[0].private_numbers() == keys[1].private_numbers()
        assert pems[0] == pems[1] or words.is_24()
