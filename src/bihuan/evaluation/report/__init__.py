"""Reports people are glad to get: one sentence, one picture, the figures behind it.

:class:`CampaignReport` collects what one turn of the loop produced and becomes a
:class:`Report`; any other room or pack can make a :class:`Report` of its own sections. A report
is printed as one HTML page (Chinese and English, light and dark, phone and paper) or as PDF.
"""

from bihuan.evaluation.report.campaign import build_report
from bihuan.evaluation.report.chart import (
    Axis,
    Bar,
    Bars,
    Chart,
    Lines,
    Range,
    Ranges,
    Series,
    Tone,
    Vega,
    waterfall,
)
from bihuan.evaluation.report.page import (
    Column,
    KeyFigure,
    Report,
    Section,
    Table,
    to_html,
    to_pdf,
    write_html,
    write_pdf,
)
from bihuan.evaluation.report.summary import (
    AllocationSummary,
    AudienceSummary,
    CampaignReport,
    DecisionSummary,
    Goal,
    LimitSummary,
    ModelSummary,
    OfferSummary,
)

__all__ = [
    "CampaignReport", "Goal", "AudienceSummary", "ModelSummary", "OfferSummary", "LimitSummary",
    "AllocationSummary", "DecisionSummary", "build_report",
    "Axis", "Bar", "Bars", "Chart", "Lines", "Range", "Ranges", "Series", "Tone", "Vega",
    "waterfall", "Column", "KeyFigure", "Report", "Section", "Table",
    "to_html", "to_pdf", "write_html", "write_pdf",
]  # fmt: skip
