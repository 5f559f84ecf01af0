"""What every route stands on: callers, permissions, problems, pages, ETags, limits, traces."""

from bihuan.server.api.frame.body import Body, Criteria, View
from bihuan.server.api.frame.call import Call
from bihuan.server.api.frame.gate import gate_of, permitted, public, signed_in
from bihuan.server.api.frame.page import Page, PageQuery, cursor_of
from bihuan.server.api.frame.problem import Problem, problem_response
from bihuan.server.api.frame.router import Router

__all__ = [
    "Body",
    "Call",
    "Criteria",
    "Page",
    "PageQuery",
    "Problem",
    "Router",
    "View",
    "cursor_of",
    "gate_of",
    "permitted",
    "problem_response",
    "public",
    "signed_in",
]
