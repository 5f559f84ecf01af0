"""Whom it is for: audiences as small exact trees, and what is done with them.

In come tag values (a :class:`~bihuan.tag.TagTable`) and what a planner writes::

    arpu >= 80 and not has_contract and city in ('石家庄', '保定')

Out go members: frozen snapshots in the lake, target lists, counts, what distinguishes a group.

1. *Say it*: :func:`parse` reads the text form, :func:`from_json` the stored form, into nodes whose
   meaning is the table in :mod:`bihuan.audience.algebra`.
2. *Check it*: :func:`bind` holds names, types and codes against the tags and puts saved audiences
   in; :func:`normalise` gives one tree, and so one :func:`audience_id`, for one meaning.
3. *Read it*: :func:`predicate` as SQL over millions, :func:`matcher` over one profile in memory,
   :class:`ProgramReader` over bit planes in milliseconds. Each reader answers one shared table of
   cases and generated trees alike.
4. *Use it*: :func:`take_snapshot` freezes the members, :func:`describe` and :func:`overlap` show
   what they are like, :func:`apply_suppression` takes out the noise, :func:`apply_rules` works
   from experience.
5. *Find it*: :class:`Exploration` ranks tags for a goal, tells what each condition does, and fits
   thresholds to :class:`Resources`; :class:`Scene` and :class:`FilterForm` take audiences by the
   clock and by a clerk; :class:`Cohort`, :class:`Matrix` and :class:`RuleClassifier` keep groups.
"""

from bihuan.audience.algebra import (
    And,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
    all_of,
    any_of,
    tags_of,
)
from bihuan.audience.bind import UnknownCodeError, UnknownTagError, bind
from bihuan.audience.classify import (
    ClassifierStore,
    RuleClassifier,
    SavedClassifier,
    class_counts,
    classify_base,
    classify_profile,
    publish_classes,
)
from bihuan.audience.cohort import Cohort, find_cohort, list_cohorts, take_cohort
from bihuan.audience.coverage import (
    Description,
    Movement,
    NotEstimable,
    Overlap,
    describe,
    movement,
    overlap,
    read_flags,
)
from bihuan.audience.explore import Exploration
from bihuan.audience.following import Following, follow_cohort, follow_table, lost_members
from bihuan.audience.form import FilterForm, load_form
from bihuan.audience.json_form import from_json, to_json
from bihuan.audience.leak import Goal
from bihuan.audience.literal import AudienceError
from bihuan.audience.match import Profile, match, matcher, profile_of
from bihuan.audience.matrix import Axis, Matrix, analyse_matrix
from bihuan.audience.normalise import audience_id, normalise
from bihuan.audience.program import CrossTable, Histogram, ProgramReader, Threshold
from bihuan.audience.quantify import Curve, Fit, fit_threshold, response_curve
from bihuan.audience.reader import SqlReader
from bihuan.audience.refine import Explanation, explain_counts
from bihuan.audience.relevance import Relevance, rank_tags
from bihuan.audience.resources import Resources
from bihuan.audience.response import ScoreSum, learn_rates
from bihuan.audience.rule import ExperienceRule, RuleReport, apply_rules, load_rules
from bihuan.audience.rule_order import OrderEffect, what_would_move
from bihuan.audience.scene import Scene, load_scene
from bihuan.audience.scene_log import Resumed, SceneLog, SceneRun
from bihuan.audience.schedule import SceneStatus, resume_scene, run_due, scene_status
from bihuan.audience.snapshot import (
    AudienceSnapshot,
    MemberCount,
    combine,
    count_members,
    find_snapshot,
    get_snapshot,
    take_snapshot,
)
from bihuan.audience.sql import predicate, select_flags, select_members, tag_columns
from bihuan.audience.suppression import (
    Exclusion,
    Suppression,
    SuppressionReport,
    apply_suppression,
    standard_suppression,
)
from bihuan.audience.text import parse, to_text
from bihuan.audience.words import AudienceSyntaxError

__all__ = [
    "Node",
    "Compare",
    "In",
    "Between",
    "Flag",
    "Missing",
    "Member",
    "And",
    "Or",
    "Not",
    "Everyone",
    "Nobody",
    "all_of",
    "any_of",
    "tags_of",
    "parse",
    "to_text",
    "to_json",
    "from_json",
    "bind",
    "normalise",
    "audience_id",
    "predicate",
    "tag_columns",
    "select_flags",
    "select_members",
    "Profile",
    "match",
    "matcher",
    "profile_of",
    "ProgramReader",
    "CrossTable",
    "Histogram",
    "Threshold",
    "AudienceSnapshot",
    "MemberCount",
    "take_snapshot",
    "find_snapshot",
    "get_snapshot",
    "count_members",
    "combine",
    "Description",
    "Movement",
    "NotEstimable",
    "Overlap",
    "describe",
    "movement",
    "overlap",
    "read_flags",
    "Exclusion",
    "Suppression",
    "SuppressionReport",
    "standard_suppression",
    "apply_suppression",
    "ExperienceRule",
    "RuleReport",
    "load_rules",
    "apply_rules",
    "OrderEffect",
    "what_would_move",
    "Goal",
    "Relevance",
    "rank_tags",
    "Explanation",
    "explain_counts",
    "Resources",
    "Fit",
    "fit_threshold",
    "Curve",
    "response_curve",
    "ScoreSum",
    "learn_rates",
    "SqlReader",
    "Exploration",
    "Scene",
    "load_scene",
    "SceneLog",
    "SceneRun",
    "SceneStatus",
    "Resumed",
    "run_due",
    "scene_status",
    "resume_scene",
    "FilterForm",
    "load_form",
    "Cohort",
    "Following",
    "take_cohort",
    "find_cohort",
    "list_cohorts",
    "follow_cohort",
    "follow_table",
    "lost_members",
    "Axis",
    "Matrix",
    "analyse_matrix",
    "RuleClassifier",
    "ClassifierStore",
    "SavedClassifier",
    "classify_base",
    "classify_profile",
    "class_counts",
    "publish_classes",
    "AudienceError",
    "AudienceSyntaxError",
    "UnknownCodeError",
    "UnknownTagError",
]
