"""Personal data at rest: ciphers, masks, sealed columns, erasure, retention.

In come rows whose contract calls a column personal; out go rows in which the column holds a token
(equal numbers have equal tokens, so joins go on), and beside them a sealed table with the mask and
the ciphertext, which only the holder of the keys can open.
"""

from bihuan.data.personal.cipher import DataCipher, NumberCipher, UnreadableCipherError
from bihuan.data.personal.erase import (
    Erased,
    Found,
    Subject,
    erase_from_quarantine,
    erase_subject,
    find_left,
    subject_of,
)
from bihuan.data.personal.guard import SourceGuard, guard_of, open_cells, open_raw
from bihuan.data.personal.keys import CIPHERS, DataKeys, KeysError, keyed_hash
from bihuan.data.personal.mask import MASKS, mask, mask_identity, mask_name, mask_phone, mask_texts
from bihuan.data.personal.protect import (
    Protector,
    find_unsealed,
    is_sealed,
    mask_clear,
    personal_columns,
    protect,
    protect_lake,
    reveal_values,
    sealed_name,
    sealed_table_of,
    show_masks,
)
from bihuan.data.personal.retention import (
    PERIODS,
    Expiry,
    Period,
    find_expired,
    period_of,
    remove_expired,
)
from bihuan.data.personal.sealed import SealedFile

__all__ = [
    "DataKeys",
    "KeysError",
    "keyed_hash",
    "CIPHERS",
    "NumberCipher",
    "DataCipher",
    "UnreadableCipherError",
    "MASKS",
    "mask",
    "mask_texts",
    "mask_phone",
    "mask_identity",
    "mask_name",
    "mask_clear",
    "Protector",
    "find_unsealed",
    "SealedFile",
    "SourceGuard",
    "guard_of",
    "open_cells",
    "open_raw",
    "protect",
    "protect_lake",
    "personal_columns",
    "sealed_name",
    "sealed_table_of",
    "is_sealed",
    "reveal_values",
    "show_masks",
    "Subject",
    "subject_of",
    "Erased",
    "Found",
    "erase_subject",
    "erase_from_quarantine",
    "find_left",
    "Period",
    "PERIODS",
    "period_of",
    "Expiry",
    "find_expired",
    "remove_expired",
]
