"""The data keys: one file, never in the lake, never in the database.

One key blinds (keyed hash for joins) and never changes, since joins span all snapshots. One list
encrypts: the last encrypts new values, the earlier ones only read. One list signs the audit trail.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bihuan.kernel import UserError, file_lock
from bihuan.kernel.files import sync_folder

CIPHERS: Mapping[str, int] = {"aes-siv": 64, "sm4": 16}
"""Ciphers and the length of their keys in bytes."""

HASHES: Mapping[str, str] = {"aes-siv": "sha256", "sm4": "sm3"}
_FORMAT = 1


class KeysError(UserError):
    """The file of the data keys is absent, damaged, open to others, or of another workspace."""


@dataclass(frozen=True, slots=True)
class EncryptKey:
    """A key that encrypts or has encrypted; ``id`` stands in every ciphertext."""

    id: str
    cipher: str
    key: bytes


@dataclass(frozen=True, slots=True, repr=False)
class DataKeys:
    """The keys of one workspace.

    Parameters
    ----------
    blind
        Key of the tokens; 32 bytes.
    blind_hash
        ``sha256`` or ``sm3``: what the tokens are made with.
    encrypt
        Keys of the ciphertexts, oldest first; the last one encrypts.
    audit
        Keys of the audit seals by id, oldest first; 32 bytes each. The last one seals.
    """

    blind: bytes
    blind_hash: str
    encrypt: tuple[EncryptKey, ...]
    audit: Mapping[str, bytes]

    def __repr__(self) -> str:  # a traceback must not show a key
        return f"DataKeys({self.fingerprint}, {len(self.encrypt)} keys)"

    @property
    def fingerprint(self) -> str:
        """A name of the blinding key that tells nothing about it."""
        return hmac.digest(self.blind, b"fingerprint", "sha256").hex()[:16]

    @property
    def current(self) -> EncryptKey:
        """The key that encrypts new values."""
        return self.encrypt[-1]

    @staticmethod
    def fresh(cipher: str = "aes-siv") -> DataKeys:
        """Return new keys by the system's own chance."""
        return DataKeys(
            blind=secrets.token_bytes(32),
            blind_hash=HASHES[cipher],
            encrypt=(EncryptKey("1", cipher, secrets.token_bytes(CIPHERS[cipher])),),
            audit={"1": secrets.token_bytes(32)},
        )

    @staticmethod
    def open(path: Path, *, cipher: str = "aes-siv", create: bool = False) -> DataKeys:
        """Read the keys.

        Parameters
        ----------
        path
            The file.
        cipher
            What new keys encrypt with; a file that is there keeps its own.
        create
            Whether absent keys are made: only for a workspace that holds nothing sealed yet.

        Raises
        ------
        KeysError
            If there is no file, others may read it, or it is damaged.
        """
        if create:
            with file_lock(path.with_suffix(".lock")):  # two processes start with one set of keys
                if not path.exists():
                    _write(path, DataKeys.fresh(cipher))
        if not path.exists():
            raise KeysError(
                f"There are no data keys at {path}.",
                remedy="Bring the file back from its safe place; without it what is sealed stays"
                " sealed.",
                zh=f"找不到数据密钥文件 {path}，请从保管处恢复；没有它无法解密已加密的数据。",
            )
        if path.stat().st_mode & 0o007:
            raise KeysError(
                f"Everybody on this machine can read the data keys at {path}.",
                remedy=f"Run  chmod 600 {path}.",
                zh=f"数据密钥文件 {path} 对所有用户可读，请执行 chmod 600 {path}。",
            )
        return _read(path)

    @staticmethod
    def rotate(path: Path, *, cipher: str | None = None) -> DataKeys:
        """Add a key: new values are encrypted with it, old ones stay readable.

        Parameters
        ----------
        path
            The file of the keys.
        cipher
            What the new key encrypts with; None keeps the present cipher.
        """
        with file_lock(path.with_suffix(".lock")):
            keys = DataKeys.open(path)
            chosen = cipher or keys.current.cipher
            number = str(max(int(key.id) for key in keys.encrypt) + 1)
            fresh = EncryptKey(number, chosen, secrets.token_bytes(CIPHERS[chosen]))
            signer = str(max(int(name) for name in keys.audit) + 1)
            rotated = replace(
                keys,
                encrypt=(*keys.encrypt, fresh),
                audit={**keys.audit, signer: secrets.token_bytes(32)},
            )
            _write(path, rotated)
            return rotated


def keyed_hash(key: bytes, content: bytes, hash_name: str) -> bytes:
    """Return HMAC of ``content`` by SHA-256 or SM3.

    Raises
    ------
    KeysError
        If this build of OpenSSL has no SM3.
    """
    if hash_name == "sm3" and "sm3" not in hashlib.algorithms_available:
        raise KeysError(
            "This build of OpenSSL has no SM3.",
            remedy="Use a build with the SM algorithms, or BIHUAN_CIPHER=aes-siv.",
            zh="当前 OpenSSL 不含 SM3，请更换支持国密的版本，或设置 BIHUAN_CIPHER=aes-siv。",
        )
    return hmac.digest(key, content, hash_name)


def _write(path: Path, keys: DataKeys) -> None:
    """Replace the file; at no moment can others read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content: dict[str, Any] = {
        "format": _FORMAT,
        "blind": {"hash": keys.blind_hash, "key": _text(keys.blind)},
        "encrypt": [{"id": k.id, "cipher": k.cipher, "key": _text(k.key)} for k in keys.encrypt],
        "audit": {name: _text(key) for name, key in keys.audit.items()},
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _read(path: Path) -> DataKeys:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}")
        keys = DataKeys(
            blind=_bytes(content["blind"]["key"]),
            blind_hash=content["blind"]["hash"],
            encrypt=tuple(
                EncryptKey(k["id"], k["cipher"], _bytes(k["key"])) for k in content["encrypt"]
            ),
            audit={name: _bytes(key) for name, key in content["audit"].items()},
        )
        sizes = [len(k.key) == CIPHERS[k.cipher] for k in keys.encrypt]
        if not all(sizes) or not sizes or not keys.audit or len(keys.blind) != 32:
            raise ValueError("a key is missing or has a wrong length")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KeysError(
            f"{path} is not a file of data keys ({type(error).__name__}).",
            remedy="Bring it back from its safe place; do not write it by hand.",
            zh=f"{path} 不是有效的数据密钥文件，请从保管处恢复，不要手工编写。",
        ) from None
    return keys


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
