"""What every room stands on: ids, clock, errors, money, random streams, progress, atomic files.

Also the value that stands for what cannot be estimated. Nothing here knows a customer. Time and
chance come in through the door: a room takes a :class:`Clock` and a ``numpy.random.Generator`` as
arguments and never asks the machine for them, so every run can be repeated.
"""

from bihuan.kernel.clock import Clock, FixedClock, SystemClock
from bihuan.kernel.errors import BihuanError, Cancelled, DefectError, UserError
from bihuan.kernel.estimate import NotEstimable
from bihuan.kernel.files import file_lock, write_atomically
from bihuan.kernel.ids import canonical_json, hash_id
from bihuan.kernel.money import Money
from bihuan.kernel.parallel import core_count, on_each_part
from bihuan.kernel.progress import CancelToken, Progress, ProgressTask, SilentProgress
from bihuan.kernel.streams import random_stream

__all__ = [
    "BihuanError",
    "UserError",
    "DefectError",
    "Cancelled",
    "NotEstimable",
    "Clock",
    "SystemClock",
    "FixedClock",
    "Money",
    "Progress",
    "ProgressTask",
    "SilentProgress",
    "CancelToken",
    "canonical_json",
    "hash_id",
    "random_stream",
    "core_count",
    "on_each_part",
    "file_lock",
    "write_atomically",
]
