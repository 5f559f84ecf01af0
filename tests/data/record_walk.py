"""The rules of the record scanner, followed character by character: what it is held against."""

from __future__ import annotations

from bihuan.data.records import Dialect, count_lines

COMMA = Dialect(b",", b'"')
Found = list[tuple[bytes, int, int]]
"""Record, physical line from 0, number of fields (0: its first line is broken)."""


def walk(data: bytes, width: int) -> Found:
    """The rules of the module, character by character."""
    found, position, line = [], 0, 0
    while position < len(data):
        stop, after, fields, closed = one_record(data, position)
        lines = count_lines(data[position:stop])
        if not closed or (lines and fields != width):
            stop, after = line_end(data, position)
            fields, lines = 0, 0
        if stop > position:
            found.append((data[position:stop], line, fields))
        position, line = after, line + lines + 1
    return found


def line_end(data: bytes, position: int) -> tuple[int, int]:
    for at in range(position, len(data)):
        if data[at : at + 2] == b"\r\n":
            return at, at + 2
        if data[at : at + 1] in (b"\r", b"\n"):
            return at, at + 1
    return len(data), len(data)


def one_record(data: bytes, position: int) -> tuple[int, int, int, bool]:
    fields, at, at_start = 1, position, True
    first_end = line_end(data, position)[0]
    while True:
        if at_start and data[at : at + 1] == b'"':
            at += 1
            while True:
                if at >= len(data):
                    return at, at, fields, False
                if data[at : at + 2] == b'""':
                    at += 2
                elif data[at : at + 1] == b'"':
                    at += 1
                    if at > first_end and data[at : at + 1] not in (b"", b",", b"\r", b"\n"):
                        return at, at, fields, False
                    break
                else:
                    at += 1
        at_start = False
        end, after = line_end(data, at)
        comma = data.find(b",", at, end)
        if comma < 0:
            return end, after, fields, True
        fields, at, at_start = fields + 1, comma + 1, True
