"""Encodings: found out over the whole file, decoded without loss, broken bytes kept apart."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from bihuan.data import encoding as encoding_module
from bihuan.data.block import RowSource
from bihuan.data.encoding import inspect_text, original_bytes, readable, utf8_chunks
from bihuan.data.mapping import SourceFormat, SourceMapping
from bihuan.data.source import open_source
from bihuan.kernel import SilentProgress

from .ingest_fixtures import Room

CHINESE = "编号,姓名,城市\n1,欧阳娜娜,石家庄\n2,王小明,保定\n"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def opened(path: Path, **form: object) -> RowSource:
    mapping = SourceMapping("test", {}, SourceFormat(**form))  # type: ignore[arg-type]
    return open_source(path, mapping, SilentProgress())


def rows(source: RowSource) -> list[dict[str, object]]:
    return [row for block in source.blocks(source.facts.columns) for row in block.rows.to_pylist()]


class TestEncoding:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("utf-8", "utf-8"),
            ("utf-8-sig", "utf-8"),
            ("gbk", "gb18030"),
            ("gb18030", "gb18030"),
            ("utf-16", "utf-16-le"),
            ("utf-16-le", "utf-16-le"),
            ("utf-16-be", "utf-16-be"),
        ],
    )
    @pytest.mark.parametrize("packed", [False, True])
    def test_is_found_out(self, room: Room, written: str, read: str, packed: bool) -> None:
        text = CHINESE if not written.startswith("utf-16-") else CHINESE.replace("姓名", "name" * 9)
        content = text.encode(written)
        path = room.file("t.csv.gz", gzip.compress(content)) if packed else None
        source = opened(path or room.file("t.csv", content))
        assert source.facts.details["encoding"] == read
        assert source.facts.columns[0] == "编号"
        assert [row["城市"] for row in rows(source)] == ["石家庄", "保定"]

    def test_the_whole_file_is_looked_at_not_its_head(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encoding_module, "CHUNK_BYTES", 4096)
        text = "id,name\n" + "1,plain\n" * 20_000 + "2,石家庄市裕华区\n" * 300
        for written, read in (("gbk", "gb18030"), ("utf-8", "utf-8")):
            source = opened(room.file("t.csv", text.encode(written)))
            assert source.facts.details["encoding"] == read
            assert rows(source)[-1]["name"] == "石家庄市裕华区"

    def test_few_broken_bytes_do_not_make_another_encoding(self, room: Room) -> None:
        text = ("1,石家庄\n" * 50).encode() + b"2,\xe7\x9f\n" + ("3,保定\n" * 50).encode()
        assert opened(room.file("t.csv", text)).facts.details["encoding"] == "utf-8"
        gbk = ("1,石家庄\n" * 50).encode("gbk") + b"2,\xff\n" + ("3,保定\n" * 50).encode("gbk")
        source = opened(room.file("g.csv", gbk))
        assert source.facts.details["encoding"] == "gb18030"
        [bad] = [row for block in source.blocks(()) for row in block.unreadable]
        assert (bad.reason, bad.trace.line) == ("BAD_BYTES", 51)
        assert bad.trace.raw == b"2,\xff", "as it lies in the file"
        assert bad.text == "2,\\xff"

    def test_one_broken_byte_in_a_plain_file_is_one_bad_row(self, room: Room) -> None:
        content = b"id,name\n" + b"1,plain\n" * 2000 + b"2,\xff\n"
        source = opened(room.file("t.csv", content))
        assert source.facts.details["encoding"] == "utf-8"
        assert sum(len(block.unreadable) for block in source.blocks(())) == 1

    def test_latin_text_is_not_taken_for_chinese(self, room: Room) -> None:
        text = "id;nom\n1;Müller à Genève\n2;Crème brûlée\n3;naïve façade\n" * 5
        source = opened(room.file("t.csv", text.encode("cp1252")))
        assert source.facts.details["encoding"] != "gb18030"
        assert rows(source)[0]["nom"] == "Müller à Genève"

    def test_a_stated_encoding_is_taken_without_a_guess(self, room: Room) -> None:
        path = room.file("t.csv", "id,name\n1,臺北\n".encode("big5"))
        assert rows(opened(path, encoding="big5")) == [{"id": "1", "name": "臺北"}]

    def test_characters_cut_by_chunks_stay_whole(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for written in ("utf-8", "gbk", "utf-16"):
            path = room.file("t.csv", CHINESE.encode(written))
            for size in (4, 5, 7):
                monkeypatch.setattr(encoding_module, "CHUNK_BYTES", size)
                facts = inspect_text(path, None)
                assert b"".join(utf8_chunks(path, facts)).decode() == CHINESE

    @pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le", "big5"])
    def test_undecodable_bytes_can_be_had_back(self, room: Room, encoding: str) -> None:
        content = "好".encode(encoding) + b"\xff\xff" + "的".encode(encoding) + b"\x80"
        path = room.file("t.csv", content)
        facts = inspect_text(path, encoding)
        text = b"".join(utf8_chunks(path, facts))
        assert original_bytes(text, encoding) == content
        assert "好" in readable(text)

    def test_hash_is_of_the_file_as_it_lies(self, room: Room) -> None:
        path = room.file("t.csv.gz", gzip.compress(CHINESE.encode("gbk")))
        assert inspect_text(path, None).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
