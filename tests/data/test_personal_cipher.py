"""Keys, ciphers and masks of personal data."""

from __future__ import annotations

import json
import os
import stat

import pyarrow as pa
import pytest

from bihuan.data.personal import (
    CIPHERS,
    DataCipher,
    DataKeys,
    KeysError,
    UnreadableCipherError,
    mask,
    mask_phone,
    mask_texts,
)

NUMBERS = ["13812348000", "15900000001", "10086", "张三", "", "x" * 300, "１３８１２３４８０００"]


@pytest.fixture(params=sorted(CIPHERS))
def cipher(request) -> DataCipher:
    return DataCipher(DataKeys.fresh(request.param))


class TestCipher:
    @pytest.mark.parametrize("text", NUMBERS)
    def test_gives_back_what_it_took(self, cipher, text):
        sealed = cipher.encrypt(text, "phone")
        assert cipher.decrypt(sealed, "phone") == text
        assert not text or text not in sealed

    def test_another_kind_does_not_open(self, cipher):
        with pytest.raises(UnreadableCipherError):
            cipher.decrypt(cipher.encrypt("13812348000", "phone"), "name")

    def test_a_changed_value_does_not_open(self, cipher):
        sealed = cipher.encrypt("13812348000", "phone")
        for at in range(2, len(sealed) - 2, 3):
            changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
            with pytest.raises(UnreadableCipherError):
                cipher.decrypt(changed, "phone")

    @pytest.mark.parametrize("text", ["", "1:", "9:AAAA", "nonsense", "1:!!!", "1:AAAA"])
    def test_nonsense_is_refused(self, cipher, text):
        with pytest.raises(UnreadableCipherError):
            cipher.decrypt(text, "phone")

    def test_foreign_keys_do_not_open(self, cipher):
        foreign = DataCipher(DataKeys.fresh(cipher.keys.current.cipher))
        with pytest.raises(UnreadableCipherError, match="sealed under other keys"):
            foreign.decrypt(cipher.encrypt("13812348000", "phone"), "phone")

    def test_tokens_join_and_do_not_tell(self, cipher):
        one, two = cipher.blind("13812348000", "phone"), cipher.blind("13812348001", "phone")
        assert one == cipher.blind("13812348000", "phone") != two
        assert one != cipher.blind("13812348000", "name")
        assert one != DataCipher(DataKeys.fresh()).blind("13812348000", "phone")
        assert len({cipher.blind(f"138{n:08d}", "phone") for n in range(5_000)}) == 5_000

    def test_sm4_with_a_random_nonce_hides_equality_and_siv_needs_none(self):
        for name, same in (("aes-siv", True), ("sm4", False)):
            made = DataCipher(DataKeys.fresh(name))
            assert (made.encrypt("1", "phone") == made.encrypt("1", "phone")) is same

    def test_known_answers(self):
        """RFC 4493-based AES-SIV and GB/T 32905 HMAC-SM3 by the library agree with fixed keys."""
        from bihuan.data.personal.keys import EncryptKey

        keys = DataKeys(
            bytes(32), "sm3", (EncryptKey("1", "aes-siv", bytes(64)),), {"1": b"0" * 32}
        )
        cipher = DataCipher(keys)
        assert cipher.encrypt("13812348000", "phone") == cipher.encrypt("13812348000", "phone")
        from cryptography.hazmat.primitives import hashes, hmac

        made = hmac.HMAC(bytes(32), hashes.SM3())
        made.update(b"phone\x0013812348000")
        assert cipher.blind("13812348000", "phone") == "~" + made.finalize()[:16].hex()


class TestKeys:
    def test_are_made_once_and_only_the_owner_reads_them(self, tmp_path):
        path = tmp_path / "keys" / "data.json"
        keys = DataKeys.open(path, cipher="sm4", create=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert DataKeys.open(path, create=True) == keys == DataKeys.open(path)
        assert keys.current.cipher == "sm4"
        assert keys.blind_hash == "sm3"

    def test_absent_keys_are_said_to_be_absent(self, tmp_path):
        with pytest.raises(KeysError, match="There are no data keys") as error:
            DataKeys.open(tmp_path / "data.json")
        assert "密钥" in error.value.zh

    def test_keys_that_everybody_reads_are_refused(self, tmp_path):
        path = tmp_path / "data.json"
        DataKeys.open(path, create=True)
        path.chmod(0o644)
        with pytest.raises(KeysError, match="Everybody"):
            DataKeys.open(path)

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 2}', '{"format": 1}'])
    def test_damaged_keys_are_refused_without_showing_them(self, tmp_path, content):
        path = tmp_path / "data.json"
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(KeysError, match="not a file of data keys"):
            DataKeys.open(path)

    def test_a_short_key_is_refused(self, tmp_path):
        path = tmp_path / "data.json"
        DataKeys.open(path, create=True)
        content = json.loads(path.read_text())
        content["encrypt"][0]["key"] = "AAAA"
        path.write_text(json.dumps(content))
        with pytest.raises(KeysError):
            DataKeys.open(path)

    def test_a_crash_while_writing_leaves_the_old_keys(self, tmp_path, monkeypatch):
        path = tmp_path / "data.json"
        keys = DataKeys.open(path, create=True)

        def fail(handle):
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            DataKeys.rotate(path)
        monkeypatch.undo()
        assert DataKeys.open(path) == keys
        assert DataKeys.rotate(path).current.id == "2"

    def test_rotation_keeps_old_values_readable_and_tokens_equal(self, tmp_path):
        path = tmp_path / "data.json"
        old = DataCipher(DataKeys.open(path, create=True))
        sealed, token = old.encrypt("13812348000", "phone"), old.blind("13812348000", "phone")
        new = DataCipher(DataKeys.rotate(path, cipher="sm4"))
        assert new.keys.current.cipher == "sm4"
        assert new.decrypt(sealed, "phone") == "13812348000"
        assert new.blind("13812348000", "phone") == token
        fresh = new.encrypt("13812348000", "phone")
        assert fresh.startswith("2:")
        with pytest.raises(UnreadableCipherError, match="no key '2'"):
            old.decrypt(fresh, "phone")

    def test_no_key_is_shown_by_a_repr(self):
        keys = DataKeys.fresh()
        assert keys.blind.hex() not in repr(keys)
        assert str(keys.blind) not in repr(keys)


class TestMasks:
    @pytest.mark.parametrize(
        ("text", "kind", "shown"),
        [
            ("13812348000", "phone", "138****8000"),
            ("8613812348000", "phone", "861******8000"),
            ("88886666", "phone", "****6666"),
            ("110", "phone", "***"),
            ("11010519491231002X", "identity", "110*************2X"),
            ("张三", "name", "张*"),
            ("李", "name", "*"),
            ("", "name", ""),
        ],
    )
    def test_show_little(self, text, kind, shown):
        assert mask(text, kind) == shown
        assert mask(shown, kind) == shown

    def test_columns_keep_missing_and_length(self):
        column = pa.chunked_array([["13812348000", None], [], ["110"]], pa.string())
        assert mask_phone(column).to_pylist() == ["138****8000", None, "***"]

    def test_the_same_as_target_lists_show(self):
        from bihuan.delivery.target_list import masked_number

        for text in ("", "1", "110", "1234567", "88886666", "0311888888", "13812348000", "x" * 30):
            assert mask(text, "phone") == masked_number(text)

    def test_running_text_loses_numbers_and_keeps_dates(self):
        assert mask_texts("call 138-1234-8000 on 2026-10-31") == "call *** on 2026-10-31"
