from __future__ import annotations

import pytest

from bihuan.kernel import BihuanError, Cancelled, DefectError, UserError


class TestUserError:
    def test_it_says_what_is_wrong_and_what_to_do(self):
        error = UserError("There is no table 'x'.", remedy="Choose one of: a, b.", zh="没有表 x。")
        assert str(error) == "There is no table 'x'. Choose one of: a, b."
        assert error.text("en") == str(error)
        assert error.text("zh") == "没有表 x。"

    def test_without_chinese_it_falls_back_to_english(self):
        assert UserError("No.").text("zh") == "No."

    def test_without_remedy_there_is_no_blank_at_the_end(self):
        assert str(UserError("No.")) == "No."


class TestExitCodes:
    @pytest.mark.parametrize(
        ("kind", "code"), [(BihuanError, 1), (UserError, 2), (DefectError, 70), (Cancelled, 130)]
    )
    def test_each_kind_has_its_own(self, kind, code):
        assert kind.exit_code == code

    def test_a_defect_is_not_the_users_fault(self):
        assert not issubclass(DefectError, UserError)
