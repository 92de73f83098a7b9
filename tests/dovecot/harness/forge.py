"""Encrypted files made and opened without Dovecot and without our code.

Each length and number in a forged file can be given another value than the
true one: that is what they are for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .keys import OAEP, Key, agree, v1_encrypt

MAGIC = b"CRYPTED\x03\x07"
HMAC, AEAD, NO_INTEGRITY = 1, 2, 4
AES_GCM = bytes.fromhex("060960864801650304012e")
AES_CBC = bytes.fromhex("060960864801650304012a")
CHACHA20_POLY1305 = bytes.fromhex("060b2a864886f70d0109100312")
SHA256 = bytes.fromhex("0609608648016503040201")


@dataclass
class Stream:
    """A version 2 stream; None stands for the right value."""

    plain: bytes
    key: Key
    flags: int = AEAD
    cipher: bytes = AES_GCM
    digest: bytes = SHA256
    #: what is written, and what is done
    rounds: int = 2048
    real_rounds: int | None = None
    key_type: int | None = None
    key_id: bytes | None = None
    recipients: int | None = None
    header_length: int | None = None
    key_data_length: int | None = None
    ephemeral_length: int | None = None
    wrapped_length: int | None = None
    hash_length: int | None = None
    tag: bytes | None = None
    block: bytes = field(default_factory=lambda: secrets.token_bytes(60), repr=False)

    def data(self) -> bytes:
        """The file."""
        key_data = self._key_data()
        head = MAGIC + b"\x02" + _u32(self.flags)
        rest = (
            self.cipher
            + self.digest
            + _u32(self.rounds)
            + _u32(_or(self.key_data_length, len(key_data)))
            + key_data
        )
        length = len(head) + 4 + len(rest)
        payload, tag = self._payload()
        return (
            head
            + _u32(_or(self.header_length, length))
            + rest
            + payload
            + (tag if self.tag is None else self.tag)
        )

    def _key_data(self) -> bytes:
        block = self._block()
        is_rsa = isinstance(self.key.private, rsa.RSAPrivateKey)
        if is_rsa:
            peer = b""
            wrapped = self.key.private.public_key().encrypt(block, OAEP)
        else:
            secret, peer = agree(self.key)
            rounds = _or(self.real_rounds, max(1, self.rounds))
            derived = hashlib.pbkdf2_hmac("sha256", secret, peer, rounds, 48)
            wrapped = _cbc(derived[:32], derived[32:], block)
        hashed = _hash(block)
        return (
            bytes([_or(self.recipients, 1), _or(self.key_type, 1 if is_rsa else 2)])
            + (self.key_id or bytes.fromhex(self.key.id))
            + _u32(_or(self.ephemeral_length, len(peer)))
            + peer
            + _u32(_or(self.wrapped_length, len(wrapped)))
            + wrapped
            + _u32(_or(self.hash_length, len(hashed)))
            + hashed
        )

    def _block(self) -> bytes:
        sealed = self.flags & (HMAC | AEAD)
        if self.cipher != AES_CBC:
            return self.block if sealed else self.block[:44]
        full = (self.block + self.block)[:64]
        return full if sealed else full[:48]

    def _payload(self) -> tuple[bytes, bytes]:
        block = self._block()
        if self.cipher == AES_CBC:
            payload = _cbc(block[:32], block[32:48], self.plain)
        elif self.cipher == CHACHA20_POLY1305:
            # As the AEAD would do it: its first block of key stream is the tag's.
            counter = (1).to_bytes(4, "little")
            encryptor = Cipher(
                algorithms.ChaCha20(block[:32], counter + block[32:44]), None
            ).encryptor()
            payload = encryptor.update(self.plain)
        else:
            encryptor = Cipher(
                algorithms.AES(block[:32]), modes.GCM(block[32:44])
            ).encryptor()
            encryptor.authenticate_additional_data(block[44:])
            payload = encryptor.update(self.plain) + encryptor.finalize()
            if self.flags & AEAD:
                return payload, encryptor.tag
        if self.flags & HMAC:
            return payload, hmac.digest(block[-16:], payload, "sha256")
        return payload, b""


def version1(plain: bytes, key: Key) -> bytes:
    """A version 1 stream."""
    content = secrets.token_bytes(32)
    secret, peer = agree(key)
    wrapped = v1_encrypt(hashlib.sha256(secret).digest(), content)
    fields = [peer, bytes.fromhex(key.old_id), hashlib.sha256(content).digest(), wrapped]
    body = b"".join(struct.pack(">H", len(f)) + f for f in fields)
    return MAGIC + b"\x01" + struct.pack(">H", len(body)) + body + v1_encrypt(content, plain)


@dataclass(frozen=True)
class Header:
    """What the header of a file says."""

    version: int
    flags: int
    rounds: int
    key_ids: tuple[str, ...]
    length: int


def header(data: bytes) -> Header:
    """Read the header of a file that is known to be well formed."""
    assert data[:9] == MAGIC, data[:9]
    if data[9] == 1:
        (length,) = struct.unpack_from(">H", data, 10)
        at = 12
        (peer,) = struct.unpack_from(">H", data, at)
        at += 2 + peer
        (id_length,) = struct.unpack_from(">H", data, at)
        return Header(1, 0, 0, (data[at + 2 : at + 2 + id_length].hex(),), 12 + length)
    flags, length = struct.unpack_from(">II", data, 10)
    at = 18
    for _ in range(2):
        assert data[at] == 6
        at += 2 + data[at + 1]
    rounds, _ = struct.unpack_from(">II", data, at)
    at += 8
    ids = []
    count, at = data[at], at + 1
    for _ in range(count):
        ids.append(data[at + 1 : at + 33].hex())
        at += 33
        for _ in range(2):
            (size,) = struct.unpack_from(">I", data, at)
            at += 4 + size
    return Header(data[9], flags, rounds, tuple(ids), length)


def key_block(data: bytes, key: Key) -> bytes:
    """What the header of an AES-GCM version 2 file has for `key`: the mail's key, IV and AAD."""
    found = header(data)
    assert (found.version, found.flags) == (2, AEAD)
    at = 18
    for _ in range(2):
        at += 2 + data[at + 1]
    at += 8
    assert data[at] == 1
    at += 34
    parts = []
    for _ in range(3):
        (size,) = struct.unpack_from(">I", data, at)
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == found.length
    peer, wrapped, hashed = parts
    if isinstance(key.private, rsa.RSAPrivateKey):
        block = key.private.decrypt(wrapped, OAEP)
    else:
        public = ec.EllipticCurvePublicKey.from_encoded_point(key.private.curve, peer)
        secret = key.private.exchange(ec.ECDH(), public)
        derived = hashlib.pbkdf2_hmac("sha256", secret, peer, found.rounds, 48)
        decryptor = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:])).decryptor()
        unpadder = padding.PKCS7(128).unpadder()
        padded = decryptor.update(wrapped) + decryptor.finalize()
        block = unpadder.update(padded) + unpadder.finalize()
    assert _hash(block) == hashed
    return block


def decrypt(data: bytes, key: Key) -> bytes:
    """Open an AES-GCM version 2 file for `key`; raises if its tag is wrong."""
    block, at = key_block(data, key), header(data).length
    decryptor = Cipher(
        algorithms.AES(block[:32]), modes.GCM(block[32:44], data[-16:])
    ).decryptor()
    decryptor.authenticate_additional_data(block[44:])
    try:
        return decryptor.update(data[at:-16]) + decryptor.finalize()
    except InvalidTag:
        raise ValueError("the tag is wrong") from None


def _hash(block: bytes) -> bytes:
    digest = hashlib.sha256(block).digest()
    for i in range(1, 2049):
        digest = hashlib.sha256(digest + _u32(i)).digest()
    return digest


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def _or(given: int | None, right: int) -> int:
    return right if given is None else given


def _cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    padded = padder.update(data) + padder.finalize()
    return encryptor.update(padded) + encryptor.finalize()
