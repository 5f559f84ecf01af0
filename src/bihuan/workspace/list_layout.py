"""What stands on target lists: chosen tags, the campaign's scripts, and what is said to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.delivery import ListLayout
from bihuan.step.facts_single import decided_at

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

SPOKEN: Mapping[str, Mapping[str, str]] = {
    "wording": {"zh": "话术编号/版本/分组", "en": "Script / version / arm"},
    "spoken": {"zh": "应说话术（按客户匹配）", "en": "To be said (matched to the customer)"},
}
"""Titles of the columns that scripts add, by language."""


def list_layout(workspace: Workspace, campaign_id: str, columns: Sequence[str]) -> ListLayout:
    """Return what stands on the lists of a campaign's newest deployment.

    Parameters
    ----------
    workspace
        Whose campaign.
    campaign_id
        Deployed before.
    columns
        Tags of the customers, with the values on which the campaign was decided.

    Returns
    -------
    ListLayout
        With the columns of :data:`SPOKEN` where the workspace has scripts: which script, in which
        version and arm, is said to the customer, and the text. Empty where none fits.
    """
    campaign, language = workspace.campaign(campaign_id), workspace.settings.language
    titles = {name: workspace.dictionary.get(name).title for name in columns}
    details: pa.Table | None = None
    newest = max(workspace.view.dates("decision"))
    decided = decided_at(workspace.view, campaign_id, newest) or newest
    if columns:
        details = workspace.tags(decided).read(workspace.engine, columns)
    if workspace.scripts.files:
        rows = workspace.deployment(campaign_id).assignments(workspace.view).read()
        said = workspace.scripts.list_details(rows, decided)
        details = said if details is None else beside(details, said)
        titles = {**titles, **SPOKEN}
    return ListLayout(
        details=details,
        titles=titles,
        scripts={name: words[language] for name, words in campaign.scripts.items()},
        language=language,
    )


def beside(details: pa.Table, said: pa.Table) -> pa.Table:
    """Put what is said beside other details of customers; missing where nothing is.

    Parameters
    ----------
    details
        One row per customer.
    said
        ``customer_id`` and the columns of :data:`SPOKEN`.

    Examples
    --------
    >>> tags = pa.table({"customer_id": ["a", "b"], "arpu": [50, 60]})
    >>> said = pa.table({"customer_id": ["b"], "wording": ["w/1/A"], "spoken": ["Hello"]})
    >>> beside(tags, said)["spoken"].to_pylist()
    [None, 'Hello']
    """
    at = pc.index_in(details["customer_id"], value_set=said["customer_id"].combine_chunks())
    for name in SPOKEN:
        details = details.append_column(name, said[name].take(at))
    return details
