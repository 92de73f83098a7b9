"""Reads tests/vectors/slots after docs/format.md, without any code of ours."""

from __future__ import annotations

import hashlib
import hmac
import re

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key
from harness import Key
from harness.modules import REPOSITORY

VECTORS = REPOSITORY / "tests" / "vectors" / "slots"
TEXT = (VECTORS / "slots").read_text()
FORMAT = (REPOSITORY / "docs" / "format.md").read_text()
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
(CODE,) = re.findall(r"`((?:[0-9A-Z]{4}-){6}[0-9A-Z]{4})`", (VECTORS / "README.md").read_text())


def five_bits(data: bytes) -> str:
    """The bytes as base32, the last digit filled up with zeros."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(ALPHABET[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def secret_of(code: str) -> bytes:
    """A code's secret; its check digits are right."""
    digits = code.replace("-", "")
    assert len(digits) == 28
    number = int("".join(f"{ALPHABET.index(digit):05b}" for digit in digits[:26]), 2)
    assert number & 3 == 0
    secret = (number >> 2).to_bytes(16, "big")
    assert digits[26:] == five_bits(hashlib.sha256(b"mail_crypt code 1" + secret).digest())[:2]
    return secret


def fields_of(kind: str) -> list[list[str]]:
    """The fields of all lines of a kind, without kind and checksum."""
    lines = [line.split(" ") for line in TEXT.split("\n")[1:]]
    return [line[1:-1] for line in lines if line[0] == kind]


def unlock(string: str, secret: bytes | None = None, key=None) -> tuple[Key, str]:
    """A private key string on P-256 under a secret or a key; the key, and its id in the string."""
    version, _, kind, cipher, salt, digest, rounds, sealed, *rest = string.split(":")
    assert (version, cipher, digest) == ("2", "aes-256-ctr", "sha256")
    if key is not None:
        assert kind == "1"
        ephemeral, _, key_id = rest
        point = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, bytes.fromhex(ephemeral))
        secret = key.exchange(ec.ECDH(), point)
    else:
        assert kind == "2"
        (key_id,) = rest
    derived = hashlib.pbkdf2_hmac("sha256", secret, bytes.fromhex(salt), int(rounds), 48)
    data = Cipher(algorithms.AES(derived[:32]), modes.CTR(derived[32:])).decryptor().update(bytes.fromhex(sealed))
    found = Key(ec.derive_private_key(int.from_bytes(data[4:], "big"), ec.SECP256R1()))
    assert found.id == key_id
    return found, key_id


def slot_key(name: str, slot: list[str]):
    """A slot's private key."""
    if slot[6] == "-":
        return load_pem_private_key((VECTORS / f"{name}.pem").read_bytes(), None)
    secret = {"recovery": secret_of(CODE), "sso": b"hQ3v7nG0a1kZ9wY2r5t8uA==", "spouse": b"zweites-Passwort"}[name]
    if slot[4] != "-":
        kdf, rounds, salt = slot[4].split(":")
        assert kdf == "pbkdf2"
        secret = hashlib.pbkdf2_hmac("sha256", secret, bytes.fromhex(salt), int(rounds), 32)
    return unlock(slot[6], secret)[0].private


def test_every_line_has_its_checksum():
    assert TEXT.split("\n")[0] == "1 9" and not TEXT.endswith("\n")
    for line in TEXT.split("\n")[1:]:
        body, _, given = line.rpartition(" ")
        assert given == hashlib.sha256(body.encode()).hexdigest()[:8]


def test_slots_open_and_their_seals_are_right():
    wraps = dict(fields_of("key"))
    opened = set()
    for slot in fields_of("slot"):
        name = slot[0]
        if name not in wraps:
            continue
        user_key, user_id = unlock(wraps[name], key=slot_key(name, slot))
        body, sealed_by, seal = " ".join(["1", *slot[:6]]), slot[7], slot[8]
        secret = hmac.digest(user_key.dovecot_private().encode(), b"mail_crypt slot seal 1", "sha256")
        assert seal == hmac.digest(secret, body.encode(), "sha256").hex()
        assert sealed_by == user_id
        assert load_der_public_key(bytes.fromhex(slot[5].split(":")[1]))
        opened.add(name)
    assert opened == {"recovery", "sso", "spouse", "token", "escrow"}


def test_what_was_replaced_names_its_successor():
    ((_, _, by, old),) = fields_of("undo")
    now = (VECTORS / "user-key").read_text()
    assert by == hashlib.sha256(now.encode()).hexdigest()
    assert bytes.fromhex(old).decode().split(":")[:3] == now.split(":")[:3] == ["2", "1.2.840.10045.3.1.7", "1"]


def test_the_document_has_the_vector():
    assert CODE in FORMAT and secret_of(CODE).hex() in FORMAT
    (quoted,) = re.findall(r"^```slots\n(.*?)^```$", FORMAT, re.MULTILINE | re.DOTALL)
    for short in quoted.splitlines():
        parts = re.escape(short).replace(re.escape(".."), "[0-9a-f]+")
        assert re.search(f"^{parts}$", TEXT, re.MULTILINE), short
