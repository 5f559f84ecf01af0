"""Finds out how a text file is encoded and turns it into UTF-8, whatever it holds.

The whole file is looked at, not its head: a file whose first Chinese name stands in its millionth
line is still read right. Bytes that are no text do not stop the reading: they come out as invalid
UTF-8, so that the rows that hold them, and only those, can be set aside.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from bihuan.kernel import UserError

CHUNK_BYTES = 16 << 20
_ESCAPE = "bihuan.escape"
_ESCAPED = re.compile("[\udc00-\udcff]+")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF8_DAMAGE = 0.25  # a GBK text read as UTF-8 is wrong in about 0.7 of its characters
_GB_DAMAGE = 0.1
_GB_PLAIN = 0.5  # of the characters beyond ASCII lie in GB 2312; Latin text read as GBK: ~0
_FEW_LINES = 0.001  # damage in fewer lines is damage; a text of another encoding has more
_OTHERS = ("big5hkscs", "shift_jis", "euc_jp", "cp949", "cp1251", "cp1252")
_SAMPLE_BYTES = 256 << 10


class UnreadableSourceError(UserError):
    """A source cannot be read at all: absent, empty, cut off, or not what its name says."""


class EmptySourceError(UnreadableSourceError):
    """A source is whole and has no rows."""


@dataclass(frozen=True, slots=True)
class TextFacts:
    """What a look at the whole file said.

    Parameters
    ----------
    encoding
        Python's name of the encoding, without byte order mark.
    bom
        Length of the byte order mark.
    sha256
        Of the file as it lies on disk, hexadecimal.
    size
        Bytes of the text, unpacked.
    is_strict
        Whether it is known to be UTF-8 without a fault.
    """

    encoding: str
    bom: int
    sha256: str
    size: int
    is_strict: bool


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, unpacked if it is gzip (by its first bytes, not its name)."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(path, "rb")) if packed else path.open("rb")


def raw_chunks(path: Path) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file in pieces of :data:`CHUNK_BYTES`.

    Raises
    ------
    UnreadableSourceError
        If a gzip file is cut off or damaged.
    """
    try:
        with open_bytes(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableSourceError(
            f"{path.name} is cut off or damaged: {error}.",
            remedy="Fetch the file again and compare its size with the sender's.",
            zh=f"{path.name} 不完整或已损坏,请重新获取该文件,并与发送方核对大小。",
        ) from error


def inspect_text(
    path: Path, declared: str | None, advance: Callable[[int], None] = lambda amount: None
) -> TextFacts:
    """Look at a whole text file: its encoding, its size, its hash.

    A byte order mark decides; then strict UTF-8; then UTF-8 with few damaged places or lines; then
    GB 18030 (which holds GBK and GB 2312) if it reads like Chinese; then a guess from the bytes.

    Parameters
    ----------
    path
        The file, plain or gzip.
    declared
        Encoding that the mapping states; it is taken without a guess.
    advance
        Told the number of bytes looked at.

    Raises
    ------
    UnreadableSourceError
        If nothing fits, or a gzip file is cut off.
    """
    head, size, strict = b"", 0, True
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    for chunk in raw_chunks(path):
        head = head or chunk
        size += len(chunk)
        advance(len(chunk))
        strict = strict and _still_strict(decoder, chunk)
    if strict:
        strict = _still_strict(decoder, b"", final=True)
    mark, encoding = _marked(head)
    if declared is not None:
        encoding = codecs.lookup(declared).name
        mark = mark if _marked(head)[1] in (encoding, f"{encoding}-le") else 0
        encoding = _without_mark(encoding, head)
    elif encoding == "":
        encoding = _wide(head) or ("utf-8" if strict else _guess(path))
    is_strict = strict and encoding == "utf-8"
    return TextFacts(encoding, mark, file_sha256(path), size, is_strict)


def utf8_chunks(path: Path, facts: TextFacts) -> Iterator[bytes]:
    """Yield the text of a file as UTF-8, without byte order mark.

    Parameters
    ----------
    path
        The file.
    facts
        From :func:`inspect_text`.

    Yields
    ------
    bytes
        UTF-8, not cut at characters. Undecodable bytes ``b`` of another encoding come as the
        surrogate U+DC00 + b, which is invalid UTF-8 and from which :func:`original_bytes` gets
        them back.
    """
    chunks = raw_chunks(path)
    first = next(chunks, b"")[facts.bom :]
    if facts.encoding == "utf-8":
        yield first
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(facts.encoding)(_ESCAPE)
    yield decoder.decode(first).encode("utf-8", "surrogatepass")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def original_bytes(text: bytes, encoding: str) -> bytes:
    """Return the bytes of the file that :func:`utf8_chunks` turned into ``text``."""
    if encoding == "utf-8":
        return text
    characters = text.decode("utf-8", "surrogatepass")
    parts, end = [], 0
    for found in _ESCAPED.finditer(characters):
        parts.append(characters[end : found.start()].encode(encoding))
        parts.append(bytes(ord(sign) - 0xDC00 for sign in found[0]))
        end = found.end()
    return b"".join([*parts, characters[end:].encode(encoding)])


def readable(text: bytes) -> str:
    r"""Return ``text`` for a person's eyes; undecodable bytes as ``\xff``.

    Examples
    --------
    >>> readable(b"ab\xff") == "ab" + chr(92) + "xff"
    True
    """
    try:
        return text.decode()
    except UnicodeDecodeError:
        pass
    try:
        shown = text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        shown = text.decode("utf-8", "backslashreplace")
    return _ESCAPED.sub(
        lambda found: "".join(f"\\x{ord(sign) - 0xDC00:02x}" for sign in found[0]), shown
    )


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in bad), error.end


codecs.register_error(_ESCAPE, _escape)


def _still_strict(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> bool:
    if chunk.isascii() and not final and not decoder.getstate()[0]:
        return True
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _marked(head: bytes) -> tuple[int, str]:
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return len(mark), encoding
    return 0, ""


def _without_mark(encoding: str, head: bytes) -> str:
    """Name the byte order, which the decoder of ``utf-16`` would look for in every chunk."""
    if encoding == "utf-8-sig":
        return "utf-8"
    if encoding in ("utf-16", "utf-32"):
        marked = _marked(head)[1]
        return marked if marked.startswith(encoding) else f"{encoding}-le"
    return encoding


def _wide(head: bytes) -> str | None:
    """Tell UTF-16 without mark by the zero bytes of its ASCII characters."""
    sample = np.frombuffer(head[: 64 << 10], dtype=np.uint8)
    even, odd = (
        float((sample[start::2] == 0).mean()) if sample.size > 1 else 0.0 for start in (0, 1)
    )
    if max(even, odd) < 0.2 or min(even, odd) > 0.1:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _guess(path: Path) -> str:
    """Choose an encoding for a file that is not strict UTF-8."""
    utf8 = _damage(path, "utf-8")
    if utf8.share < _UTF8_DAMAGE or utf8.per_line < _FEW_LINES:
        return "utf-8"
    chinese = _damage(path, "gb18030")
    if chinese.share < _GB_DAMAGE and chinese.plain >= _GB_PLAIN:
        return "gb18030"
    # imported here: only a file of some third encoding needs it
    from charset_normalizer import from_bytes

    # only encodings in which ASCII stays ASCII: the delimiters must be where they seem to be
    best = from_bytes(_sample(path), cp_isolation=list(_OTHERS)).best()
    if best is None:
        raise UnreadableSourceError(
            f"The encoding of {path.name} cannot be told.",
            remedy="State it in the mapping, as in 'source: {encoding: big5}'.",
            zh=f"无法判断 {path.name} 的编码,请在映射文件中写明,例如 source: {{encoding: big5}}。",
        )
    return best.encoding


@dataclass(frozen=True, slots=True)
class _Damage:
    share: float  # undecodable places among all characters beyond ASCII
    plain: float  # characters of GB 2312 among the decodable ones beyond ASCII
    per_line: float  # undecodable places per line


def _damage(path: Path, encoding: str) -> _Damage:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    bad = beyond = plain = lines = 0
    for chunk in raw_chunks(path):
        text = decoder.decode(chunk)
        lines += text.count("\n")
        ascii_only = len(text.encode("ascii", "ignore"))
        bad += text.count("\ufffd")
        beyond += len(text) - ascii_only
        plain += (len(text.encode("gb2312", "ignore")) - ascii_only) // 2
    good = beyond - bad
    return _Damage(bad / max(beyond, 1), plain / max(good, 1), bad / max(lines, 1))


def _sample(path: Path) -> bytes:
    """Collect lines with characters beyond ASCII from all over the file."""
    sample = bytearray()
    for chunk in raw_chunks(path):
        lines = (line for line in chunk.splitlines() if not line.isascii())
        room = _SAMPLE_BYTES // 8
        for line in lines:
            sample += line[:4096] + b"\n"
            room -= len(line)
            if room < 0:
                break
        if len(sample) > _SAMPLE_BYTES:
            break
    return bytes(sample)
