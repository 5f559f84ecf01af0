"""Ciphers of phone numbers, identity numbers and names: one interface, two providers.

A ciphertext carries the id of its key, so keys rotate without touching old values. A token is a
keyed hash under a key of its own: who can read tokens cannot decrypt, and who rotates the cipher
does not break joins. A plain hash would not do: eleven digits are tried out in seconds.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from bihuan.data.personal.keys import DataKeys, EncryptKey, keyed_hash
from bihuan.kernel import UserError

TOKEN_MARK = "~"
TOKEN_LENGTH = 33
_SEALED_CELL = "~sealed:"
_NONCE, _TAG = 12, 16


class UnreadableCipherError(UserError):
    """A ciphertext cannot be opened: its key is missing, or it was changed."""


class NumberCipher(Protocol):
    """Encrypts short texts and makes tokens of them."""

    def encrypt(self, text: str, kind: str) -> str:
        """Return the ciphertext of ``text``; it opens only as the same ``kind``."""
        ...

    def decrypt(self, sealed: str, kind: str) -> str:
        """Return the text of a ciphertext; raise :class:`UnreadableCipherError` if it cannot."""
        ...

    def blind(self, text: str, kind: str) -> str:
        """Return the token of ``text``: the same for the same text and kind, for ever."""
        ...


class _AesSiv:
    """AES-SIV (RFC 5297): no nonce to get wrong, and no length to spare for a number."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def seal(self, text: bytes, kind: bytes) -> bytes:
        return self._cipher.encrypt(text, [kind])

    def open(self, sealed: bytes, kind: bytes) -> bytes:
        return self._cipher.decrypt(sealed, [kind])


class _Sm4Gcm:
    """SM4 (GB/T 32907) in GCM with a random nonce of 96 bits.

    One key may seal 2^32 values before a nonce is likely to repeat; rotate long before.
    """

    def __init__(self, key: bytes) -> None:
        self._key = algorithms.SM4(key)

    def seal(self, text: bytes, kind: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        writer = Cipher(self._key, modes.GCM(nonce)).encryptor()
        writer.authenticate_additional_data(kind)
        return nonce + writer.update(text) + writer.finalize() + writer.tag

    def open(self, sealed: bytes, kind: bytes) -> bytes:
        nonce, body, tag = sealed[:_NONCE], sealed[_NONCE:-_TAG], sealed[-_TAG:]
        reader = Cipher(self._key, modes.GCM(nonce, tag)).decryptor()
        reader.authenticate_additional_data(kind)
        return reader.update(body) + reader.finalize()


class DataCipher:
    """The cipher of a workspace's keys; a :class:`NumberCipher`.

    Parameters
    ----------
    keys
        From :meth:`DataKeys.open`. Each key says its own cipher, so values sealed by either
        provider stay readable after a change.

    Examples
    --------
    >>> cipher = DataCipher(DataKeys.fresh())
    >>> cipher.decrypt(cipher.encrypt("13812348000", "phone"), "phone")
    '13812348000'
    >>> cipher.blind("13812348000", "phone") == cipher.blind("13812348000", "phone")
    True
    """

    def __init__(self, keys: DataKeys) -> None:
        self.keys = keys
        self._openers: Mapping[str, _AesSiv | _Sm4Gcm] = {
            key.id: _provider(key) for key in keys.encrypt
        }
        self._writer = self._openers[keys.current.id]

    def encrypt(self, text: str, kind: str) -> str:
        """Return ``key id:ciphertext``; see :class:`NumberCipher`."""
        return f"{self.keys.current.id}:{self._seal(text.encode(), kind)}"

    def decrypt(self, sealed: str, kind: str) -> str:
        """Return the text of a ciphertext; see :class:`NumberCipher`.

        Raises
        ------
        UnreadableCipherError
            If the key file has no such key, or the ciphertext was changed or is another kind.
        """
        name, _, body = sealed.partition(":")
        opener = self._openers.get(name)
        if opener is None:
            raise UnreadableCipherError(
                f"The key file has no key '{name[:8]}', under which this value was sealed.",
                remedy="Bring back the key file of this workspace, with all its keys.",
                zh=f"密钥文件中没有加密此值的密钥“{name[:8]}”，请恢复本工作区的完整密钥文件。",
            )
        try:
            return opener.open(base64.b64decode(body, validate=True), kind.encode()).decode()
        except (InvalidTag, ValueError):
            raise UnreadableCipherError(
                "A sealed value cannot be opened: it was changed, or sealed under other keys.",
                remedy="Check that the key file belongs to this workspace.",
                zh="加密值无法解开：已被改动，或使用了其他密钥。请确认密钥文件属于本工作区。",
            ) from None

    def blind(self, text: str, kind: str) -> str:
        """Return ``~`` and 128 bits in hexadecimal; see :class:`NumberCipher`."""
        made = keyed_hash(self.keys.blind, f"{kind}\0{text}".encode(), self.keys.blind_hash)
        return TOKEN_MARK + made[:16].hex()

    # a cell of a source that is set aside: recognisable, so that a replay can open it

    def seal_cell(self, text: str) -> str:
        """Return a sealed cell that :meth:`open_cell` recognises."""
        return _SEALED_CELL + self.encrypt(text, "cell")

    def open_cell(self, text: str) -> str:
        """Return the text of a sealed cell; any other text as it is."""
        if not text.startswith(_SEALED_CELL):
            return text
        return self.decrypt(text.removeprefix(_SEALED_CELL), "cell")

    def _seal(self, text: bytes, kind: str) -> str:
        return base64.b64encode(self._writer.seal(text, kind.encode())).decode()


def is_token(text: str) -> bool:
    """Tell whether a text has the form of a token."""
    return (
        len(text) == TOKEN_LENGTH
        and text.startswith(TOKEN_MARK)
        and not set(text[1:]) - set("0123456789abcdef")
    )


def is_sealed_cell(text: str) -> bool:
    """Tell whether a text is a sealed cell."""
    return text.startswith(_SEALED_CELL)


def _provider(key: EncryptKey) -> _AesSiv | _Sm4Gcm:
    return _AesSiv(key.key) if key.cipher == "aes-siv" else _Sm4Gcm(key.key)
