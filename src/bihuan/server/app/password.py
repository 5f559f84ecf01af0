"""Passwords: what is good enough, how it is kept, how it is checked."""

from __future__ import annotations

import threading
import unicodedata
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from bihuan.server.app.errors import RefusedError

SHORTEST, LONGEST = 10, 200
COMMON = frozenset(
    ("1234567890", "0123456789", "0987654321", "9876543210", "12345678910", "1234567891",
     "123456789a", "a123456789", "1111111111", "0000000000", "8888888888", "6666666666",
     "1122334455", "1q2w3e4r5t", "qwertyuiop", "qwerty1234", "qwerty12345", "qwer123456",
     "qazwsxedcr", "1qaz2wsx3edc", "1qaz@wsx3edc", "asdfghjkl1", "asdfghjkl;", "zxcvbnm123",
     "password12", "password123", "password1234", "password!1", "passw0rd123", "p@ssw0rd123",
     "administrator", "admin12345", "admin123456", "admin@1234", "admin@12345", "welcome123",
     "welcome2026", "changeme123", "iloveyou123", "letmein1234", "abcd123456", "abc1234567",
     "aa12345678", "aa123456789", "woaini1314", "woaini5201314", "5201314520", "1314520520",
     "china10010", "china10000", "china10086", "10086100861", "unicom10010", "telecom10000",
     "qwe1234567", "aaaaaaaaaa", "abcdefghij", "abcdefghijk", "test123456", "test12345678")
)  # fmt: skip
"""The most used passwords that are long enough otherwise, in lower case."""


class WeakPasswordError(RefusedError):
    """The password is too easily guessed."""


def folded_name(name: str) -> str:
    """Return an account name in the one form in which names are compared.

    Examples
    --------
    >>> folded_name(" Ｄｅｍｏ-Planner ")
    'demo-planner'
    """
    return unicodedata.normalize("NFKC", name).strip().casefold()


def check_strength(name: str, password: str) -> None:
    """Refuse a password that is short, the account's own name, or among the most common.

    Parameters
    ----------
    name
        Of the account.
    password
        As typed; spaces count.

    Raises
    ------
    WeakPasswordError
        With the rule that it breaks. Kinds of characters are not asked for: length is what helps.

    Examples
    --------
    >>> check_strength("demo-planner", "Password123")
    Traceback (most recent call last):
    bihuan.server.app.password.WeakPasswordError: This password is among the most common ones. ...
    """
    plain = folded_name(password)
    if not SHORTEST <= len(password) <= LONGEST:
        problem = (
            f"A password has {SHORTEST} to {LONGEST} characters; this one has {len(password)}."
        )
        zh = f"密码长度须为 {SHORTEST} 至 {LONGEST} 个字符，目前为 {len(password)} 个。"
    elif plain == folded_name(name) or (name and plain.strip("0123456789") == folded_name(name)):
        problem, zh = "The password is the account's name.", "密码不能与账号相同。"
    elif plain in COMMON or len(set(plain)) < 4:
        problem, zh = "This password is among the most common ones.", "密码过于常见。"
    else:
        return
    raise WeakPasswordError(
        problem, remedy="Choose a longer sentence of your own.", zh=f"{zh}请改用较长且独有的短语。"
    )


class Passwords:
    """Argon2id hashes: made, checked, and made anew when the parameters have grown.

    Parameters
    ----------
    time_cost, memory_kib
        Work per hash; the usual values take some 50 ms on one core of 2026.
    at_once
        Hashes computed at the same time, so that a flood of sign-ins cannot fill the memory.

    Examples
    --------
    >>> passwords = Passwords(time_cost=1, memory_kib=64)
    >>> kept = passwords.hash("a sentence of my own")
    >>> kept.startswith("$argon2id$"), passwords.check(kept, "a sentence of my own")
    (True, True)
    >>> passwords.check(kept, "another"), passwords.check(None, "another")
    (False, False)
    """

    def __init__(
        self, *, time_cost: int = 3, memory_kib: int = 48 * 1024, at_once: int = 4
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=1, hash_len=32, salt_len=16
        )
        self._turns = threading.BoundedSemaphore(at_once)

    @cached_property
    def _nobody(self) -> str:
        return self._hasher.hash("nobody's password")

    def hash(self, password: str) -> str:
        """Return the hash under which ``password`` is kept."""
        with self._turns:
            return self._hasher.hash(unicodedata.normalize("NFKC", password))

    def check(self, kept: str | None, password: str) -> bool:
        """Tell whether ``password`` is the one kept; without one, work as long and say no."""
        nobody = self._nobody  # made in any case, or the first unknown name would take longer
        with self._turns:
            try:
                self._hasher.verify(kept or nobody, unicodedata.normalize("NFKC", password))
            except (VerificationError, InvalidHashError):
                return False
        return kept is not None

    def is_outdated(self, kept: str | None) -> bool:
        """Tell whether a kept hash was made with other parameters than today's."""
        return kept is not None and self._hasher.check_needs_rehash(kept)


PASSWORDS = Passwords()
"""With the parameters of production."""
