"""A workspace: a folder with a lake and definitions, and one method per stage of the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from bihuan.audience import (
    AudienceSnapshot,
    Exploration,
    MemberCount,
    ProgramReader,
    RuleReport,
    SuppressionReport,
    apply_rules,
    apply_suppression,
    count_members,
    load_rules,
    parse,
    standard_suppression,
    take_snapshot,
)
from bihuan.data import (
    Engine,
    IngestReport,
    Lake,
    LakeView,
    ProblemBook,
    QualityProfile,
    Quarantine,
    TableContract,
    ingest,
    load_contracts,
    load_mapping,
    load_recipe,
    prepare,
    profile_quality,
    replay,
)
from bihuan.data.personal import DataCipher, DataKeys, Protector, protect_lake
from bihuan.decision import Plan
from bihuan.delivery import (
    Channel,
    Deployment,
    FileChannel,
    GatePolicy,
    list_deployments,
)
from bihuan.evaluation import Text
from bihuan.evaluation.report import Section, build_report, write_html, write_pdf
from bihuan.feedback import OutcomeReport, ingest_outcomes, publish_contacts
from bihuan.kernel import Clock, Progress, UserError
from bihuan.model import BuiltModel, Metrics, ModelCard, ModelRegistry
from bihuan.offer import Catalogue
from bihuan.step import (
    Carried,
    DecisionRecord,
    Judgement,
    Rooms,
    Target,
    campaign_report,
    carry_out,
    choose_audience,
    decide_campaign,
    deploy_decisions,
    judge_campaign,
    load_score_order,
    read_decisions,
    refresh_tags,
    score_customers,
)
from bihuan.strategy import Campaign, load_campaign
from bihuan.tag import (
    LIBRARY_FOLDER,
    DeriveReport,
    IndexNotBuiltError,
    IndexReport,
    TagDictionary,
    TagNotIndexedError,
    TagTable,
    build_index,
    open_index,
    read_tags,
)
from bihuan.workspace.layout import Layout, load_settings
from bihuan.workspace.list_layout import list_layout
from bihuan.workspace.offer_desk import OfferDesk
from bihuan.workspace.place import Day, day_of, place_of
from bihuan.workspace.policy_desk import Policies
from bihuan.workspace.portraits import Portraits
from bihuan.workspace.recommender import Recommendations
from bihuan.workspace.rehearsals import Rehearsals
from bihuan.workspace.scenes import Filters, Scenes
from bihuan.workspace.script_desk import Scripts
from bihuan.workspace.segments import Cohorts, Segments
from bihuan.workspace.strategy_desk import StrategyDesk
from bihuan.workspace.tag_desk import TagDesk
from bihuan.workspace.touchpoint_desk import Touchpoints
from bihuan.workspace.view360 import View360


class Workspace:
    """One operator's data, definitions and results.

    Parameters
    ----------
    root
        The workspace's folder; see :func:`open_workspace`.
    clock, progress, engine
        Time, where long work reports, where queries run.
    """

    def __init__(self, root: Path, *, clock: Clock, progress: Progress, engine: Engine) -> None:
        self.layout = Layout(root)
        self.settings = load_settings(root)
        self.clock = clock
        self.progress = progress
        self.engine = engine
        self.lake = Lake(self.layout.lake)
        self.keys_file = self.layout.root / "keys" / "data.json"
        self._protector: Protector | None = None

    # what is defined

    @cached_property
    def contracts(self) -> Mapping[str, TableContract]:
        """Table contracts: the built-in ones and those of ``contracts/``."""
        return load_contracts([self.layout.definitions("contracts")])

    @cached_property
    def dictionary(self) -> TagDictionary:
        """The tag dictionary of ``tags/``; the sample library where that folder has none."""
        folder = self.layout.definitions("tags")
        if not any(folder.glob("*.yaml")):
            folder = LIBRARY_FOLDER
        return TagDictionary.load(folder, contracts=self.contracts)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The offers of ``offers/``."""
        return Catalogue.load(*sorted(self.layout.definitions("offers").glob("*.yaml")))

    def campaign(self, campaign_id: str) -> Campaign:
        """Return the campaign of ``campaigns/<campaign_id>.yaml``."""
        path = self.layout.find_definition("campaigns", campaign_id)
        return load_campaign(path, self.catalogue)

    def list_campaigns(self) -> list[str]:
        """Return the names of the campaign files, sorted."""
        return sorted(path.stem for path in self.layout.definitions("campaigns").glob("*.yaml"))

    def install(self, pack: Path) -> list[str]:
        """Copy a pack's definitions into the workspace; what is there already stays."""
        copied = self.layout.install(pack)
        for name in ("contracts", "dictionary", "catalogue"):
            self.__dict__.pop(name, None)
        return copied

    # data

    def ingest(
        self, source: Path | str, mapping: str, as_of: Day, *, append: bool = False
    ) -> IngestReport:
        """Take a file, a sheet or a database table into the lake.

        Parameters
        ----------
        source
            Path of a CSV, Parquet, Excel or SPSS file, or ``URL#table`` of a database.
        mapping
            Name of a file in ``mappings/``.
        as_of
            Snapshot date.
        append
            Add to the snapshot of that date instead of replacing it.

        Returns
        -------
        IngestReport
            Rows read, stored and quarantined per table.
        """
        return ingest(
            self.lake,
            load_mapping(self.layout.find_definition("mappings", mapping)),
            place_of(source),
            day_of(as_of),
            contracts=self.contracts,
            clock=self.clock,
            progress=self.progress,
            engine=self.engine,
            quarantine=self.quarantine,
            append=append,
            protector=self.protector,
        )

    @cached_property
    def quarantine(self) -> Quarantine:
        """Rows that were refused, by batch."""
        return Quarantine(self.layout.quarantine)

    def replay(self, batch_id: str, mapping: str) -> IngestReport:
        """Take a quarantine batch in again after its mapping was mended."""
        return replay(
            self.lake,
            self.quarantine,
            batch_id,
            load_mapping(self.layout.find_definition("mappings", mapping)),
            contracts=self.contracts,
            clock=self.clock,
            progress=self.progress,
            protector=self.protector,
        )

    @property
    def protector(self) -> Protector | None:
        """Seals personal columns with the keys of ``keys_file``; None where there is no such file.

        A notebook without keys keeps what it reads as it is; a service always has keys.
        """
        if self._protector is None and self.keys_file.exists():
            self._protector = Protector(DataCipher(DataKeys.open(self.keys_file)))
        return self._protector

    def protect(self) -> list[tuple[str, date]]:
        """Seal the personal columns of snapshots stored before there were keys.

        Returns
        -------
        list
            Table and date of each snapshot that was rewritten; empty where all was sealed.
        """
        if self.protector is None:
            return []
        return protect_lake(self.lake, self.contracts, self.protector, self.clock)

    def quality(self, table: str, as_of: Day) -> QualityProfile:
        """Profile a table: completeness, range, granularity, freshness."""
        if table not in self.contracts:
            raise UserError(
                f"There is no table '{table}'.",
                remedy=f"Choose from: {', '.join(sorted(self.contracts))}.",
                zh=f"没有名为 {table} 的表，可选：{'、'.join(sorted(self.contracts))}。",
            )
        return profile_quality(
            self.view, table, day_of(as_of), self.contracts[table], self.engine,
            today=self.clock.now().date(),
        )  # fmt: skip

    def prepare(self, recipe: str, as_of: Day) -> pa.Table:
        """Run the preparation recipe of ``recipes/<recipe>.yaml`` and return its rows."""
        path = self.layout.find_definition("recipes", recipe)
        return prepare(load_recipe(path), self.view, day_of(as_of), self.engine, self.contracts)

    @cached_property
    def problems(self) -> ProblemBook:
        """Data problems, followed until they are solved."""
        return ProblemBook(self.layout.root / "problems", self.clock)

    @property
    def view(self) -> LakeView:
        """What the lake holds now."""
        return self.lake.view()

    # tags and audiences

    def refresh_tags(self, as_of: Day, *, subject: str = "customer") -> DeriveReport:
        """Derive the live tags of a subject; what has not changed is left as it is."""
        return refresh_tags(self.rooms, day_of(as_of), subject=subject)

    def tags(self, as_of: Day, *, subject: str = "customer") -> TagTable:
        """Return the tag values of a date, ready to be read."""
        return read_tags(self.view, self.dictionary, subject, day_of(as_of))

    def index_tags(
        self,
        as_of: Day,
        *,
        subject: str = "customer",
        only: Sequence[str] | None = None,
        afresh: bool = False,
    ) -> IndexReport:
        """Bring the bit planes of a date's tags up to date, or build them afresh after damage."""
        tags = self.tags(as_of, subject=subject)
        return build_index(
            tags, self.layout.index, only=only, afresh=afresh, progress=self.progress
        )

    def reader(self, as_of: Day, *, subject: str = "customer") -> ProgramReader:
        """Return what answers questions about audiences in milliseconds, from bit planes.

        Planes that are not there or not of the present values are built first, so an answer is
        never of other values than :meth:`tags` shows.
        """
        self.index_tags(as_of, subject=subject)
        return ProgramReader(open_index(self.layout.index, subject, day_of(as_of)))

    def explore(self, as_of: Day, *, subject: str = "customer") -> Exploration:
        """Return a session in which a planner asks about one date's audiences."""
        tags = self.tags(as_of, subject=subject)
        reader = self.reader(as_of, subject=subject)
        return Exploration(tags, reader, engine=self.engine, dictionary=self.dictionary)

    def count(self, audience: str, as_of: Day, *, subject: str = "customer") -> MemberCount:
        """Count who satisfies a rule, e.g. ``arpu >= 80 and not has_contract``.

        Planes answer where there are any of these tags' present values, else the lake does.
        """
        tags = self.tags(as_of, subject=subject)
        try:
            index = open_index(self.layout.index, subject, day_of(as_of))
            if not index.stale(tags):
                return MemberCount(ProgramReader(index).count(audience), tags.rows)
        except (IndexNotBuiltError, TagNotIndexedError):
            pass  # the planes are there for speed; the lake has the same answer
        return count_members(parse(audience), tags, engine=self.engine)

    def take_snapshot(
        self, audience: str, as_of: Day, *, subject: str = "customer"
    ) -> AudienceSnapshot:
        """Freeze who satisfies a rule; the same rule over the same data is the same snapshot."""
        tags = self.tags(as_of, subject=subject)
        return take_snapshot(
            parse(audience), tags, lake=self.lake, engine=self.engine, clock=self.clock
        )

    def members(self, audience: str, as_of: Day, columns: Sequence[str] = ()) -> pa.Table:
        """Return the target list of a rule, with chosen tags alongside."""
        snapshot = self.take_snapshot(audience, as_of)
        return snapshot.members(columns, tags=self.tags(as_of), engine=self.engine)

    def suppress(
        self,
        audience: str,
        as_of: Day,
        *,
        minimum_failed_contacts: int = 1,
        keep: Sequence[str] = (),
    ) -> SuppressionReport:
        """Take out of an audience whom the standard exclusions name, and say why for each."""
        standard = standard_suppression(minimum_failed_contacts=minimum_failed_contacts, keep=keep)
        return apply_suppression(parse(audience), standard, self.tags(as_of), engine=self.engine)

    def apply_rules(self, name: str, as_of: Day) -> RuleReport:
        """Apply the experience rules of ``rules/<name>.yaml``: who meets which, and who wins."""
        rules = load_rules(self.layout.find_definition("rules", name))
        return apply_rules(rules, self.tags(as_of), engine=self.engine)

    # models

    def learn(self, model: str, as_of: Day) -> tuple[BuiltModel, Metrics]:
        """Learn the model of ``models/<model>.yaml``, register it, and score the customers."""
        order = load_score_order(self.layout.find_definition("models", model))
        return score_customers(self.rooms, order, day_of(as_of))

    @cached_property
    def registry(self) -> ModelRegistry:
        """Every version of every model, with its card."""
        return ModelRegistry(self.layout.registry)

    # campaigns

    def target(self, campaign_id: str, as_of: Day) -> Target:
        """Freeze a campaign's audience and take out the excluded."""
        return choose_audience(self.rooms, self.campaign(campaign_id), day_of(as_of))

    def decide(
        self, campaign_id: str, as_of: Day, *, confirmed: frozenset[str] = frozenset()
    ) -> Plan:
        """Decide a campaign under levers, policies and overrides, and log it; nothing is sent."""
        target, rules = self.target(campaign_id, as_of), self.recommender.rules(as_of)
        campaign = self.campaign(campaign_id)
        plan = decide_campaign(self.rooms, campaign, target, confirmed=confirmed, rules=rules)
        self.recommender.look_again()
        return plan

    def decisions(self, campaign_id: str, as_of: Day) -> DecisionRecord:
        """Return what was decided, from the log."""
        return read_decisions(self.rooms, campaign_id, day_of(as_of))

    def deploy(self, campaign_id: str, as_of: Day) -> Deployment:
        """Freeze the logged decisions into assignments; the same decisions twice are one."""
        record = self.decisions(campaign_id, as_of)
        return deploy_decisions(self.rooms, self.campaign(campaign_id), record.decisions)

    def deployment(self, campaign_id: str) -> Deployment:
        """Return the newest deployment of a campaign."""
        found = list_deployments(self.view, campaign_id)
        if not found:
            raise UserError(
                f"Campaign '{campaign_id}' has not been deployed.",
                remedy=f"Run  bihuan deploy {campaign_id}  first.",
                zh=f"方案 {campaign_id} 尚未部署，请先运行 bihuan deploy。",
            )
        return max(found, key=lambda deployment: deployment.generation)

    def send(
        self, campaign_id: str, channel: Channel, *, policy: GatePolicy | None = None
    ) -> Carried:
        """Send the newest deployment through a channel; sending twice sends nobody twice."""
        return carry_out(self.rooms, self.deployment(campaign_id), channel, policy=policy)

    def write_lists(
        self, campaign_id: str, *, columns: Sequence[str] = (), with_xlsx: bool = False
    ) -> Carried:
        """Write one target list per channel and org unit under ``lists/``.

        Parameters
        ----------
        campaign_id
            Deployed before.
        columns
            Tags of the customers that stand on the lists.
        with_xlsx
            Whether workbooks are written beside the CSV files.

        Notes
        -----
        Where there are scripts in ``scripts/``, each line says which of them, in which version and
        arm, is said to its customer, and the text (see :meth:`Scripts.list_details`).
        """
        channel = FileChannel(
            self.layout.lists, clock=self.clock, layout=list_layout(self, campaign_id, columns),
            with_xlsx=with_xlsx, engine=self.engine, progress=self.progress,
        )  # fmt: skip
        return self.send(campaign_id, channel, policy=GatePolicy.for_lists())

    def record_outcomes(self, campaign_id: str, outcomes: Path | pa.Table) -> OutcomeReport:
        """Take in what happened to the newest deployment; the same file twice changes nothing."""
        deployment = self.deployment(campaign_id)
        report = ingest_outcomes(
            self.lake,
            outcomes,
            deployment=deployment,
            quarantine_folder=self.layout.quarantine,
            clock=self.clock,
            engine=self.engine,
        )
        publish_contacts(self.lake, deployment, clock=self.clock, engine=self.engine)
        return report

    def evaluate(self, campaign_id: str, as_of: Day, responses_as_of: Day) -> Judgement:
        """Judge a campaign: funnel, effect against control, return.

        Parameters
        ----------
        campaign_id
            The campaign.
        as_of
            Date of the data on which it was decided.
        responses_as_of
            Date of the data that shows what customers did afterwards.
        """
        return judge_campaign(
            self.rooms,
            self.campaign(campaign_id),
            self.deployment(campaign_id),
            self.decisions(campaign_id, as_of),
            day_of(responses_as_of),
        )

    def report(  # noqa: PLR0913 - each chapter has its own source
        self,
        campaign_id: str,
        as_of: Day,
        responses_as_of: Day,
        *,
        learnt: tuple[ModelCard, Metrics] | None = None,
        true_effect: float | None = None,
        notes: Sequence[Text] = (),
        extra: Sequence[Section] = (),
    ) -> list[Path]:
        """Write the campaign's report as HTML and PDF under ``reports/``.

        Parameters
        ----------
        campaign_id, as_of, responses_as_of
            See :meth:`evaluate`.
        learnt
            Card of the model behind the campaign, and its figures on customers not seen.
        true_effect
            Mean true effect, where a twin knows it.
        notes, extra
            On the data, and further chapters.

        Returns
        -------
        list[Path]
            The HTML page, then the Chinese and the English PDF.
        """
        summary = campaign_report(
            self.rooms,
            self.campaign(campaign_id),
            target=self.target(campaign_id, as_of),
            record=self.decisions(campaign_id, as_of),
            judgement=self.evaluate(campaign_id, as_of, responses_as_of),
            learnt=learnt,
            true_effect=true_effect,
            notes=notes,
            extra=extra,
        )
        report = build_report(summary)
        html = self.layout.reports / f"{campaign_id}.html"
        write_html(report, html)
        paths = [html]
        for language in ("zh", "en"):
            path = self.layout.reports / f"{campaign_id}.{language}.pdf"
            write_pdf(report, path, language=language)
            paths.append(path)
        return paths

    @cached_property
    def tag_desk(self) -> TagDesk:
        """Tags and models managed at one point: proposed, reviewed, tried out, sorted out."""
        return TagDesk(self)

    @cached_property
    def view360(self) -> View360:
        """All that is known of one customer: ``ws.view360("C001", "2026-10-31")``."""
        return View360(self)

    @cached_property
    def portraits(self) -> Portraits:
        """Portraits of one customer, of a period, and of how all customers are made up."""
        return Portraits(self)

    @cached_property
    def scenes(self) -> Scenes:
        """Fixed scenes of ``scenes/``: audiences taken by the clock."""
        return Scenes(self)

    @cached_property
    def filters(self) -> Filters:
        """Saved filters of ``filters/``, filled in by a clerk."""
        return Filters(self)

    @cached_property
    def cohorts(self) -> Cohorts:
        """Snapshot cohorts: frozen at a date, followed afterwards."""
        return Cohorts(self)

    @cached_property
    def segments(self) -> Segments:
        """Matrix, clusters and automatic classification."""
        return Segments(self)

    @cached_property
    def offer_desk(self) -> OfferDesk:
        """Offers without a campaign: on sale, fair prices, matched, classes, plan changes."""
        return OfferDesk(self)

    @cached_property
    def policies(self) -> Policies:
        """Policies of ``policies/`` over the org tree: what holds, what if, changes."""
        return Policies(self)

    @cached_property
    def scripts(self) -> Scripts:
        """Scripts of ``scripts/``, matched in one place for every channel."""
        return Scripts(self)

    @cached_property
    def touchpoints(self) -> Touchpoints:
        """Touchpoints: what each offers first, and to whom."""
        return Touchpoints(self)

    @cached_property
    def rehearsals(self) -> Rehearsals:
        """Plans played through and judged before anybody is contacted."""
        return Rehearsals(self)

    @cached_property
    def strategy(self) -> StrategyDesk:
        """Strategy cube, coverage, life cycle, key moments, marketing map, preferred channels."""
        return StrategyDesk(self)

    @cached_property
    def recommender(self) -> Recommendations:
        """Next best offers over the live campaigns: for one, for all, explained, overruled."""
        return Recommendations(self)

    @property
    def rooms(self) -> Rooms:
        """The rooms as the steps of the loop take them."""
        return Rooms(
            lake=self.lake,
            contracts=self.contracts,
            dictionary=self.dictionary,
            catalogue=self.catalogue,
            engine=self.engine,
            quarantine=self.layout.quarantine,
            models=self.layout.registry,
            clock=self.clock,
            progress=self.progress,
            seed=self.settings.seed,
            currency=self.settings.currency,
        )
