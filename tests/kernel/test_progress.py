from __future__ import annotations

import threading

import pytest

from bihuan.kernel import Cancelled, CancelToken, SilentProgress, UserError


class TestSilentProgress:
    def test_work_goes_on_while_nobody_stops_it(self):
        with SilentProgress().task("read", total=3) as task:
            for _ in range(3):
                task.advance()

    def test_a_thrown_token_stops_the_work_at_its_next_step(self):
        token = CancelToken()
        done = []

        def work():
            with SilentProgress(token).task("read") as task:
                for step in range(10):
                    if step == 4:
                        token.cancel()
                    task.advance()
                    done.append(step)

        with pytest.raises(Cancelled, match="read"):
            work()
        assert done == [0, 1, 2, 3]

    def test_work_that_is_stopped_beforehand_does_not_begin(self):
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled), SilentProgress(token).task("read"):
            pytest.fail("the work began")

    def test_another_thread_may_throw_the_token(self):
        token = CancelToken()
        begun, stopped = threading.Event(), []

        def work():
            try:
                with SilentProgress(token).task("read") as task:
                    begun.set()
                    while True:
                        task.advance()
            except Cancelled:
                stopped.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(5)
        token.cancel()
        thread.join(5)
        assert stopped == [True]

    def test_stopping_is_the_users_doing_and_has_its_own_exit_code(self):
        assert issubclass(Cancelled, UserError)
        assert Cancelled.exit_code == 130
