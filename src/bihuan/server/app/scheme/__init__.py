"""Schemes designed by the system, and the branches coached in carrying them out.

``design_scheme`` is one run from data to draft: ``terms`` (the order), ``reading`` (customers and
what a contact is worth), ``threshold`` (where the line stands), ``forecast``, ``document`` (the
campaign). ``guide`` gives each branch its tasks and targets and follows them.
"""

from bihuan.server.app.scheme.design import Proposal, propose_scheme
from bihuan.server.app.scheme.guide import (
    answer,
    find_feedback,
    find_guides,
    find_tasks,
    get_feedback,
    get_guide,
    get_task,
    issue_guides,
    progress_of,
    reopen,
    say,
    tick,
)
from bihuan.server.app.scheme.store import (
    design_scheme,
    draft_plan,
    find_schemes,
    get_scheme,
    keep_scheme,
    propose,
)
from bihuan.server.app.scheme.terms import parse_terms

__all__ = [
    "Proposal",
    "propose_scheme",
    "design_scheme",
    "propose",
    "keep_scheme",
    "draft_plan",
    "get_scheme",
    "find_schemes",
    "parse_terms",
    "issue_guides",
    "tick",
    "reopen",
    "say",
    "answer",
    "progress_of",
    "get_guide",
    "get_task",
    "get_feedback",
    "find_guides",
    "find_tasks",
    "find_feedback",
]
