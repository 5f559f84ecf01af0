"""Personal data: who may see it, who has refused, how long it is kept, how it is forgotten."""

from bihuan.server.app.personal.customer import (
    CustomerPlace,
    alias_of,
    find_place,
    get_place,
    prepare_keys,
    sealer_of,
    show_customer,
)
from bihuan.server.app.personal.erasure import (
    carry_out_erasure,
    find_erasures,
    get_erasure,
    request_erasure,
)
from bihuan.server.app.personal.opt_out import (
    CHANNELS,
    KINDS,
    Refusal,
    is_opted_out,
    list_opt_outs,
    publish_opt_outs,
    record_opt_out,
    withdraw_opt_out,
)
from bihuan.server.app.personal.question import (
    Answer,
    CloseQuestionError,
    count_audience,
)
from bihuan.server.app.personal.retention import find_expired_data, remove_expired_data
from bihuan.server.app.personal.reveal import (
    CUSTOMERS_PER_DAY,
    DisclosureLimitError,
    RevealedNumber,
    reveal_numbers,
)
from bihuan.server.app.personal.small_groups import (
    Hidden,
    SmallGroupError,
    require_large,
    show_count,
    suppress_small,
)

__all__ = [
    "CustomerPlace",
    "find_place",
    "get_place",
    "alias_of",
    "prepare_keys",
    "sealer_of",
    "show_customer",
    "KINDS",
    "CHANNELS",
    "Refusal",
    "record_opt_out",
    "withdraw_opt_out",
    "list_opt_outs",
    "is_opted_out",
    "publish_opt_outs",
    "CUSTOMERS_PER_DAY",
    "RevealedNumber",
    "DisclosureLimitError",
    "reveal_numbers",
    "request_erasure",
    "carry_out_erasure",
    "find_erasures",
    "get_erasure",
    "find_expired_data",
    "remove_expired_data",
    "SmallGroupError",
    "Hidden",
    "show_count",
    "suppress_small",
    "require_large",
    "Answer",
    "CloseQuestionError",
    "count_audience",
]
