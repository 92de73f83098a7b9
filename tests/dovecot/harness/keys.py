"""Keys made with python3-cryptography: an implementation that is neither ours nor Dovecot's."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

#: name -> class, OID, OpenSSL's number
CURVES = {
    "prime256v1": (ec.SECP256R1, "1.2.840.10045.3.1.7", 415),
    "secp384r1": (ec.SECP384R1, "1.3.132.0.34", 715),
    "secp521r1": (ec.SECP521R1, "1.3.132.0.35", 716),
}


@dataclass(frozen=True)
class KeySetting:
    """A private key as a setting takes it, and the password that opens it."""

    value: str = field(repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Key:
    """A key pair, in the forms in which settings and attributes name it."""

    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def ec(cls, curve: str = "prime256v1") -> "Key":
        """A new key on `curve`."""
        return cls(ec.generate_private_key(CURVES[curve][0]()))

    @classmethod
    def rsa(cls, bits: int = 2048) -> "Key":
        """A new RSA key."""
        return cls(rsa.generate_private_key(65537, bits))

    @cached_property
    def id(self) -> str:
        """The new key id: SHA-256 of the DER with a compressed point, in hex."""
        return hashlib.sha256(self.public_der).hexdigest()

    @cached_property
    def old_id(self) -> str:
        """The old key id: SHA-256 of the upper-case hex of the compressed point."""
        return hashlib.sha256(self.point.hex().upper().encode()).hexdigest()

    @cached_property
    def point(self) -> bytes:
        """The public point, compressed."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )

    @cached_property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo; an EC point is compressed in it."""
        der = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if isinstance(self.private, rsa.RSAPrivateKey):
            return der
        return _with_point(der, self.point)

    def pem(self, password: str | None = None) -> str:
        """PKCS#8, under a password if one is given."""
        lock = (
            serialization.BestAvailableEncryption(password.encode())
            if password
            else serialization.NoEncryption()
        )
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
        ).decode()

    def public_pem(self) -> str:
        """SubjectPublicKeyInfo as PEM."""
        return (
            self.private.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    def setting(self, password: str | None = None) -> KeySetting:
        """The private key on one line: base64 of its PEM."""
        return KeySetting(_one_line(self.pem(password)), password)

    def public_setting(self) -> str:
        """The public key on one line: base64 of its PEM."""
        return _one_line(self.public_pem())

    def dovecot_public(self) -> str:
        """The public key as an attribute holds it."""
        return f"2:{self.public_der.hex()}:{self.id}"

    def dovecot_private(self) -> str:
        """The private key as an attribute holds it, unprotected."""
        return f"2:{self._oid}:0:{self._body.hex()}:{self.id}"

    def dovecot_private_under_password(self, password: str, rounds: int | None = None) -> str:
        """Under a password; `rounds` is only written, not done, if it is given."""
        lock, body = _lock(self._body, password.encode(), rounds)
        return f"2:{self._oid}:2:{lock}:{body}:{self.id}"

    def dovecot_private_under_key(self, other: "Key", rounds: int | None = None) -> str:
        """Under another key pair; `rounds` as above."""
        secret, peer = agree(other)
        lock, body = _lock(self._body, secret, rounds)
        return f"2:{self._oid}:1:{lock}:{body}:{peer.hex()}:{other.id}:{self.id}"

    # Version 1, as the first releases stored keys

    def v1_public(self) -> str:
        """The public key as an old attribute holds it."""
        return f"1\t{self._nid}\t{self.point.hex().upper()}\t{self.old_id}"

    def v1_private(self) -> str:
        """The private key, unprotected."""
        return f"1\t{self._nid}\t0\t{self._number.hex()}\t{self.old_id}"

    def v1_private_under_password(self, password: str) -> str:
        """Under a password, which must be hex: it is decoded before it is used."""
        salt = secrets.token_bytes(8)
        derived = hashlib.pbkdf2_hmac("sha256", bytes.fromhex(password), salt, 16, 32)
        body = v1_encrypt(derived, self._number)
        return f"1\t{self._nid}\t2\t{body.hex()}\t{salt.hex()}\t{self.old_id}"

    def v1_private_under_key(self, other: "Key") -> str:
        """Under another key pair."""
        secret, peer = agree(other)
        body = v1_encrypt(hashlib.sha256(secret).digest(), self._number)
        return (
            f"1\t{self._nid}\t1\t{body.hex()}\t{peer.hex()}\t{other.old_id}\t{self.old_id}"
        )

    @property
    def _oid(self) -> str:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return "1.2.840.113549.1.1.1"
        name = self.private.curve.name
        return next(oid for curve, oid, _ in CURVES.values() if curve.name == name)

    @property
    def _nid(self) -> int:
        name = self.private.curve.name
        return next(nid for curve, _, nid in CURVES.values() if curve.name == name)

    @property
    def _number(self) -> bytes:
        number = self.private.private_numbers().private_value
        return number.to_bytes((self.private.curve.key_size + 7) // 8, "big")

    @property
    def _body(self) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        return _mpi(self.private.private_numbers().private_value)


def agree(key: Key, secret_size: int = 16) -> tuple[bytes, bytes]:
    """A secret that only the holder of `key` can find, and what that takes.

    EC: the x coordinate and the ephemeral point, uncompressed. RSA: a random
    secret, and it under OAEP.
    """
    public = key.private.public_key()
    if isinstance(key.private, rsa.RSAPrivateKey):
        secret = secrets.token_bytes(secret_size)
        return secret, public.encrypt(secret, OAEP)
    ephemeral = ec.generate_private_key(key.private.curve)
    point = ephemeral.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return ephemeral.exchange(ec.ECDH(), public), point


OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)


def v1_encrypt(key: bytes, data: bytes) -> bytes:
    """AES-256-CTR with a zero IV, as version 1 does everything."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(data)


def _lock(body: bytes, secret: bytes, rounds: int | None) -> tuple[str, str]:
    salt = secrets.token_bytes(8)
    derived = hashlib.pbkdf2_hmac("sha256", secret, salt, 2048, 48)
    encryptor = Cipher(algorithms.AES(derived[:32]), modes.CTR(derived[32:])).encryptor()
    written = 2048 if rounds is None else rounds
    return f"aes-256-ctr:{salt.hex()}:sha256:{written}", encryptor.update(body).hex()


def _one_line(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def _mpi(number: int) -> bytes:
    body = number.to_bytes(number.bit_length() // 8 + 1, "big").lstrip(b"\0")
    if body[0] & 0x80:
        body = b"\0" + body
    return len(body).to_bytes(4, "big") + body


def _with_point(der: bytes, point: bytes) -> bytes:
    """Put a compressed point in the place of the uncompressed one that ends `der`."""
    algorithm_start = 3 if der[1] & 0x80 else 2
    assert der[algorithm_start] == 0x30
    algorithm = der[algorithm_start : algorithm_start + 2 + der[algorithm_start + 1]]
    body = algorithm + _tlv(0x03, b"\0" + point)
    return _tlv(0x30, body)


def _tlv(tag: int, value: bytes) -> bytes:
    if len(value) < 128:
        return bytes([tag, len(value)]) + value
    length = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + value
