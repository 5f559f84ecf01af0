"""What every use case can reach: the control database, the workspace, the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import DataError, IntegrityError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from bihuan.kernel import Clock
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import BusyError, ConflictError, RefusedError, StaleError
from bihuan.server.control import Control, Scope, UnitOfWork
from bihuan.server.settings import Settings
from bihuan.workspace import Workspace

__all__ = ["Service", "UnitOfWork"]


@dataclass(frozen=True)
class Service:
    """The parts of a running service; made once per process by ``node``.

    Parameters
    ----------
    settings
        What the service was told.
    control
        The control database.
    workspace
        Lake and definitions.
    clock
        Tells the time.
    reply_key
        Under which requests are hashed, so that a kept hash tells nothing of a password in them.
    """

    settings: Settings
    control: Control
    workspace: Workspace
    clock: Clock
    reply_key: bytes = field(default=b"", repr=False)

    @contextmanager
    def work(
        self, actor: Actor, action: str, *, request_id: str = "", read_only: bool = False
    ) -> Iterator[UnitOfWork]:
        """Open a unit of work for ``actor`` doing ``action``, in the scope of the posts for it.

        Raises
        ------
        PermissionDeniedError
            If no post of the actor grants the action.
        """
        with (
            _in_words(),
            self.control.work(
                actor.scope(action),
                account_id=actor.account_id,
                home_unit_id=actor.home_unit_id,
                request_id=request_id,
                read_only=read_only,
            ) as work,
        ):
            yield work

    @contextmanager
    def own_work(
        self, actor: Actor, *, request_id: str = "", read_only: bool = False
    ) -> Iterator[UnitOfWork]:
        """Open a unit of work for an account's own things: it sees its home unit's subtree."""
        roots = frozenset((actor.home_unit_id,)) if actor.home_unit_id else frozenset()
        with (
            _in_words(),
            self.control.work(
                Scope(roots),
                account_id=actor.account_id,
                home_unit_id=actor.home_unit_id or None,
                request_id=request_id,
                read_only=read_only,
            ) as work,
        ):
            yield work

    @contextmanager
    def system_work(self, *, request_id: str = "", read_only: bool = False) -> Iterator[UnitOfWork]:
        """Open a unit of work of the system itself, which sees everything."""
        with (
            _in_words(),
            self.control.work(
                Scope.everything(), request_id=request_id, read_only=read_only
            ) as work,
        ):
            yield work


@contextmanager
def _in_words() -> Iterator[None]:
    """Tell what the database refused in the words of use cases."""
    try:
        yield
    except StaleDataError as error:
        raise StaleError(
            "Somebody else changed this at the same moment.",
            remedy="Read it again and repeat your change.",
            zh="他人刚刚修改了同一内容，请重新读取后再修改。",
        ) from error
    except IntegrityError as error:
        raise ConflictError(
            "The change contradicts what is stored (a taken name, or a missing reference).",
            remedy="Read the list again and repeat your change.",
            zh="修改与现有数据冲突（名称已占用或引用不存在），请刷新后重试。",
        ) from error
    except DataError as error:  # PostgreSQL stores no NUL and cuts no text that is too long
        raise RefusedError(
            "A text has a character that cannot be stored, or is too long.",
            remedy="Leave control characters out and shorten the text.",
            zh="文本含有无法存储的字符或过长，请去除控制字符并缩短。",
        ) from error
    except (OperationalError, PoolTimeoutError) as error:
        if not _is_busy(error):
            raise
        raise BusyError(
            "The control database does not answer in time.",
            remedy="Try again in a moment; run `bihuan doctor` if it stays so.",
            zh="控制库暂时无响应，请稍后重试；如持续出现请运行 bihuan doctor。",
        ) from error
    except OverflowError as error:
        raise _out_of_range() from error
    except StatementError as error:  # the parent of the others: only what is not in words yet
        if not isinstance(error.orig, OverflowError):
            raise
        raise _out_of_range() from error


def _out_of_range() -> RefusedError:
    return RefusedError(
        "A number or a date is out of range.",
        remedy="Whole numbers have at most 64 bits, dates lie between the years 1 and 9999.",
        zh="数值或日期超出范围，请修改后重试。",
    )


def _is_busy(error: OperationalError | PoolTimeoutError) -> bool:
    """Tell whether the database may answer later: a lock, a lost connection, no free one."""
    if isinstance(error, PoolTimeoutError) or error.connection_invalidated:
        return True
    text = str(error.orig).lower()
    return any(word in text for word in ("locked", "connection", "timeout", "deadlock"))
