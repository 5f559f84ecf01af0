"""Schemes designed on a twin whose truth is known, and branches coached in carrying them out."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sqlglot import parse_one

from bihuan.kernel import FixedClock, SilentProgress
from bihuan.model import publish_scores
from bihuan.pack import PACKS, TELCO_FILE
from bihuan.server.app import job as jobs
from bihuan.server.app import scheme
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.plan.content import parsed_campaign
from bihuan.server.app.scheme import threshold
from bihuan.server.app.scheme.threshold import (
    Bounds,
    NothingWorthwhileError,
    draw_line,
    fill_in_order,
    split_whole,
)
from bihuan.server.app.service import Service
from bihuan.server.control import (
    Control,
    OrgClosure,
    OrgUnit,
    Scope,
    Table,
    open_engine,
)
from bihuan.server.settings import Settings
from bihuan.server.worker import run_worker
from bihuan.twin import CHANNEL_TRAITS, Truth, draw_reaction, surround_customers, surroundings
from bihuan.twin.truth import COMPLETION
from bihuan.workspace import open_workspace

from ..worker.fleet import submit, wait_ended
from .small_lake import person

AS_OF = date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
PRODUCT, CHANNEL = "fee_mid_12", "account_manager"


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The real customers of the public file, scored, whose reaction the twin knows."""
    folder = tmp_path_factory.mktemp("scheme") / "ws"
    ws = open_workspace(folder, clock=FixedClock(NOW))
    ws.install(PACKS["retention"])
    ws.ingest(TELCO_FILE, "telco_customer_churn", AS_OF)
    surround_customers(ws.lake, AS_OF, ws.contracts, seed=7, clock=ws.clock)
    offers = tuple(offer.offer_id for offer in ws.catalogue)
    truth = draw_reaction(ws.lake, AS_OF, offers, engine=ws.engine, seed=7)
    ws.refresh_tags(AS_OF)
    visible = ws.engine.query(
        parse_one(surroundings._LEAVE_LOGIT),
        {name: ws.view.get(name, AS_OF) for name in ("subscription", "account")},
    )
    scores = calibrated(visible["leave_logit"].cast("float64").to_numpy())
    publish_scores(
        ws.lake, "churn", visible["customer_id"], scores, AS_OF, clock=ws.clock,
        lineage={"model_version": 1},
    )  # fmt: skip
    ws.refresh_tags(AS_OF)
    return SimpleNamespace(folder=folder, truth=truth)


def calibrated(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the best model can say: the chance to leave, given all that can be seen."""
    at, weight = np.polynomial.hermite_e.hermegauss(21)
    return np.asarray(expit(logit[:, None] + 0.6 * at) @ weight / weight.sum())


@pytest.fixture
def world(twin: SimpleNamespace, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A service over a copy of the twin's workspace, with its province and cities."""
    shutil.copytree(twin.folder, tmp_path / "ws")
    url = f"sqlite:///{tmp_path / 'control.db'}"
    engine = open_engine(url)
    Table.metadata.create_all(engine)
    clock = FixedClock(NOW)
    control = Control(engine, clock)
    ws = open_workspace(tmp_path / "ws", clock=clock)
    cities = [f"city-{1301 + i}" for i in range(6)]
    with control.work(Scope.everything()) as work:
        work.session.add(OrgUnit(unit_id="province", tier="province", name_zh="省"))
        work.session.flush()
        for unit in cities:
            work.session.add(OrgUnit(unit_id=unit, parent_id="province", tier="city", name_zh=unit))
        work.session.flush()
        pairs = [("province", "province", 0)]
        pairs += [(unit, unit, 0) for unit in cities] + [("province", u, 1) for u in cities]
        for above, below, depth in pairs:
            work.session.add(OrgClosure(ancestor_id=above, descendant_id=below, depth=depth))
    service = Service(Settings(workspace=tmp_path / "ws", database=url), control, ws, clock)
    yield SimpleNamespace(
        service=service,
        truth=twin.truth,
        planner=person(control, "planner", ("planner", "province")),
        city=person(control, "city", ("planner", "city-1301")),
    )
    engine.dispose()


def known_rate(truth: Truth) -> float:
    """Return the share of contacts that end in an order, as a pilot would show it."""
    rows = np.arange(len(truth.customer_ids))
    trait = CHANNEL_TRAITS[CHANNEL]
    chance = trait.delivered * truth.connect(rows, CHANNEL) * COMPLETION
    return float(np.mean(chance * truth.accept(rows, PRODUCT, CHANNEL)))


def terms(truth: Truth, **more: Any) -> dict[str, Any]:
    return {
        "score": "churn_score", "kind": "risk", "model": "churn", "within": "not has_left",
        "channels": {CHANNEL: {"unit_cost": 4.0, "acceptance": round(known_rate(truth), 4)}},
        "starts_on": "2026-11-03", "ends_on": "2026-11-30",
        "kept_share": round(1 - truth.offers[PRODUCT].grip, 4),
        "rehearse": False, **more,
    }  # fmt: skip


def case_of(world: SimpleNamespace, document: dict[str, Any]) -> Any:
    from bihuan.server.app.scheme.reading import read_case

    order = scheme.parse_terms(document)
    offers = (world.service.workspace.catalogue.get(PRODUCT),)
    return read_case(world.service, offers, "province", order, AS_OF)


def true_value(world: SimpleNamespace, case: Any) -> NDArray[np.float64]:
    """Return what contacting each customer is truly worth, from what only the twin knows."""
    truth, offer = world.truth, world.service.workspace.catalogue.get(PRODUCT)
    ids = case.ids.to_pylist()
    n = len(ids)
    effect = truth.effect_on_retention(ids, [PRODUCT] * n, [CHANNEL] * n)
    rows, trait = truth.rows_of(ids), CHANNEL_TRAITS[CHANNEL]
    sale = trait.delivered * truth.connect(rows, CHANNEL) * COMPLETION
    sale = sale * truth.accept(rows, PRODUCT, CHANNEL)
    tags = world.service.workspace.tags(AS_OF)
    table = tags.read(world.service.workspace.engine, [offer.margin.tag])
    known = dict(
        zip(table["customer_id"].to_pylist(), table[offer.margin.tag].to_pylist(), strict=True)
    )
    of_tag = np.array([float(known[one] or 0.0) for one in ids])
    margin = offer.margin.fixed + offer.margin.per_unit * of_tag
    return np.asarray(effect * margin - sale * offer.cost - 4.0)


class TestThreshold:
    @given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 4))
    def test_no_other_line_is_worth_more(self, seed: int, n: int, m: int) -> None:
        rng = np.random.default_rng(seed)
        score = rng.integers(0, 12, n) / 12
        value = np.where(rng.random((n, m)) < 0.2, np.nan, rng.normal(0.5, 2, (n, m)))
        room = [((0,), float(rng.integers(0, n + 1)))]
        try:
            line = draw_line(score, value, np.ones((n, m)), room, Bounds())
        except NothingWorthwhileError:
            line = None
        order = np.lexsort((np.arange(n), -score))
        taken = fill_in_order(value[order], room)
        worth = np.where(taken >= 0, value[order][np.arange(n), np.maximum(taken, 0)], 0.0)
        totals = [worth[score[order] >= cut].sum() for cut in np.unique(score)]
        if line is None:
            assert max(totals) <= 1e-12
        else:
            assert line.value == pytest.approx(max(totals))
            assert int((score >= line.threshold).sum()) == len(line.rows)

    def test_a_channel_takes_no_more_than_it_has_room_for(self) -> None:
        value = np.array([[5.0, 1.0], [5.0, 4.0], [5.0, np.nan], [1.0, 2.0]])
        assert fill_in_order(value, [((0,), 2.0)]).tolist() == [0, 0, -1, 1]
        assert fill_in_order(value, [((0,), math.inf)]).tolist() == [0, 0, 0, 1]
        assert fill_in_order(value, [((0,), 1.0), ((1,), 1.0)]).tolist() == [0, 1, -1, -1]

    def test_size_and_budget_bound_the_line(self) -> None:
        score, value = np.array([0.9, 0.8, 0.7, 0.6]), np.array([[3.0], [2.0], [1.0], [-5.0]])
        spent = np.ones((4, 1))

        def size(**bounds: Any) -> int:
            return len(draw_line(score, value, spent, [], Bounds(**bounds)).rows)

        assert (size(), size(most=2), size(budget=1.5), size(least=4)) == (3, 2, 1, 4)
        with pytest.raises(NothingWorthwhileError):
            size(budget=0.5)

    @given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
    def test_parts_sum_to_the_whole(self, total: int, shares: list[int]) -> None:
        parts = split_whole(total, shares)
        assert sum(parts) == (total if sum(shares) else 0)
        for part, share in zip(parts, shares, strict=True):
            assert abs(part - total * share / max(sum(shares), 1)) < 1


class TestOnTheTwin:
    def test_the_threshold_beats_smaller_and_larger_ones_in_truth(
        self, world: SimpleNamespace
    ) -> None:
        document = terms(world.truth)
        found = scheme.propose(
            world.service, world.planner, PRODUCT, unit_id="province", terms=document,
            as_of=AS_OF, progress=SilentProgress(),
        )  # fmt: skip
        case = case_of(world, document)
        worth, possible = true_value(world, case), ~np.isnan(case.value[:, 0])

        def of_line(at: float) -> float:
            return float(worth[(case.score >= at) & possible].sum())

        line = found.line.threshold
        assert 0.05 < line < 0.6
        assert of_line(line) > 0
        for other in (0.0, line / 2, line * 0.7, line * 1.4, line * 2):
            assert of_line(line) > of_line(other), other
        best = max(of_line(at) for at in np.linspace(0, 0.9, 91))
        assert of_line(line) >= 0.98 * best

    def test_a_line_that_forgets_the_cost_is_found_out(
        self, world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        document = terms(world.truth)
        case = case_of(world, document)
        worth = true_value(world, case)
        right = draw_line(case.score, case.value, case.spent, [], Bounds())
        careless = draw_line(case.score, case.value + case.spent, case.spent, [], Bounds())
        assert worth[right.rows].sum() > worth[careless.rows].sum()

    def test_the_scheme_is_a_whole_campaign_whose_cities_add_up(
        self, world: SimpleNamespace
    ) -> None:
        document = terms(world.truth, rehearse=True)
        row = scheme.design_scheme(
            world.service, world.planner, PRODUCT, unit_id="province", terms=document,
            as_of=AS_OF, progress=SilentProgress(),
        )  # fmt: skip
        campaign = parsed_campaign(row.content, world.service.workspace.catalogue)
        assert campaign.goal.metric == "retained"
        assert row.plan_id
        forecast = row.proposal["forecast"]
        assert len(forecast["units"]) == 6
        for name in ("customers", "contacts", "sales", "cost", "value"):
            total = sum(unit[name] for unit in forecast["units"])
            assert total == pytest.approx(forecast[name], abs=1e-4)
        counted = world.service.workspace.members(row.content["audience"]["rule"], AS_OF)
        assert counted.num_rows >= forecast["customers"] > 0
        assert row.proposal["rehearsal"]["verdict"] in ("pass", "warn", "fail")
        control = row.proposal["control"]
        assert 0.05 <= control["share"] <= 0.3
        assert control["enough"] == (control["power"] >= 0.8 - 1e-9)

    def test_history_outweighs_experience_as_it_grows(self, world: SimpleNamespace) -> None:
        case = case_of(world, terms(world.truth))
        (rate,) = case.rates
        assert rate["contacts"] == 0
        assert rate["rate"] == pytest.approx(rate["experience"])

    def test_units_and_products_out_of_reach_are_not_there(self, world: SimpleNamespace) -> None:
        def propose(actor: Actor, unit: str, product: str = PRODUCT) -> Any:
            return scheme.propose(
                world.service, actor, product, unit_id=unit, terms=terms(world.truth), as_of=AS_OF
            )

        with pytest.raises(NotFoundError):
            propose(world.city, "province")
        with pytest.raises(NotFoundError):
            propose(world.planner, "province", "no_such_product")
        mine = propose(world.city, "city-1301")
        assert {unit.unit_id for unit in mine.forecast.units} == {"city-1301"}

    def test_nothing_worth_its_cost_is_said_so(self, world: SimpleNamespace) -> None:
        dear = {CHANNEL: {"unit_cost": 5000.0, "acceptance": 0.2}}
        with pytest.raises(NothingWorthwhileError):
            scheme.propose(
                world.service, world.planner, PRODUCT, unit_id="province",
                terms=terms(world.truth, channels=dear), as_of=AS_OF,
            )  # fmt: skip


class TestCoaching:
    @pytest.fixture
    def issued(self, world: SimpleNamespace) -> SimpleNamespace:
        row = scheme.design_scheme(
            world.service, world.planner, PRODUCT, unit_id="province", terms=terms(world.truth),
            as_of=AS_OF, draft=False,
        )  # fmt: skip
        with world.service.work(world.planner, "plan.edit") as work:
            held = scheme.get_scheme(work, row.scheme_id)
            guides = scheme.issue_guides(work, world.planner, held)
            with pytest.raises(ConflictError):
                scheme.issue_guides(work, world.planner, held)
        return SimpleNamespace(row=row, guides=guides)

    def test_targets_of_branches_sum_to_the_scheme(
        self, world: SimpleNamespace, issued: SimpleNamespace
    ) -> None:
        forecast = issued.row.proposal["forecast"]
        assert sum(g.targets["contacts"] for g in issued.guides) == forecast["contacts"]
        with world.service.work(world.planner, "plan.read", read_only=True) as work:
            tasks = [
                t
                for g in issued.guides
                for t in work.session.scalars(scheme.find_tasks(g.guide_id))
            ]
        assert sum(task.quantity or 0 for task in tasks) == forecast["contacts"]
        assert {task.post for task in tasks} == {"planner", "account_manager", "analyst"}
        assert issued.guides[0].advice["do_not"][0]["zh"] == "不得联系对照组客户"

    def test_a_split_that_rounds_each_branch_alone_is_found_out(
        self, world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bihuan.server.app.scheme import forecast as module

        monkeypatch.setattr(
            module, "split_whole",
            lambda total, shares: [math.ceil(total * s / sum(shares)) for s in shares],
        )  # fmt: skip
        found = scheme.propose(
            world.service, world.planner, PRODUCT, unit_id="province", terms=terms(world.truth),
            as_of=AS_OF,
        )  # fmt: skip
        wanted = round(found.forecast.customers * (1 - found.control["share"]))
        assert found.forecast.contacts != wanted
        assert threshold.split_whole is not module.split_whole

    def test_branches_tick_tell_and_are_followed(
        self, world: SimpleNamespace, issued: SimpleNamespace
    ) -> None:
        mine = next(g for g in issued.guides if g.unit_id == "city-1301")
        other = next(g for g in issued.guides if g.unit_id == "city-1302")
        with world.service.work(world.city, "guide.work") as work:
            tasks = list(work.session.scalars(scheme.find_tasks(mine.guide_id)))
            contacts = next(task for task in tasks if task.quantity is not None)
            with pytest.raises(RefusedError):
                scheme.tick(work, world.city, contacts, quantity=None, note="")
            scheme.tick(work, world.city, contacts, quantity=contacts.quantity - 1, note="一户停机")
            with pytest.raises(ConflictError):
                scheme.tick(work, world.city, contacts, quantity=1, note="")
            said = scheme.say(work, world.city, mine, kind="problem", text="话术过长")
            with pytest.raises(NotFoundError):
                scheme.get_guide(work, other.guide_id)
        with world.service.work(world.planner, "plan.edit") as work:
            row = scheme.get_feedback(work, said.guide_feedback_id)
            scheme.answer(work, world.planner, row, text="已精简")
            with pytest.raises(ConflictError):
                scheme.answer(work, world.planner, row, text="再答")
            held = scheme.get_scheme(work, issued.row.scheme_id)
            found = {p.unit_id: p for p in scheme.progress_of(work, held, date(2026, 12, 1))}
        assert (found["city-1301"].done, found["city-1302"].done) == (1, 0)
        assert found["city-1301"].made == found["city-1301"].planned - 1
        assert found["city-1302"].late == found["city-1302"].tasks
        with world.service.work(world.city, "plan.read", read_only=True) as work:
            held = scheme.get_scheme(work, issued.row.scheme_id)
            assert [p.unit_id for p in scheme.progress_of(work, held, NOW.date())] == ["city-1301"]


class TestJob:
    def test_a_long_design_is_a_job_and_keeps_one_scheme(self, world: SimpleNamespace) -> None:
        service, stop = world.service, threading.Event()
        order = terms(world.truth)
        with service.work(world.planner, "plan.edit") as work:
            asked = {"product": PRODUCT, "terms": order}
            job_id = jobs.submit(work, world.planner, "scheme_design", asked).job_id
        thread = threading.Thread(target=run_worker, args=(service,), kwargs={"stop": stop})
        thread.start()
        try:
            [job] = wait_ended(service.control, job_id)
        finally:
            stop.set()
            thread.join(30)
        assert job.state == "succeeded", job.error
        with service.work(world.planner, "plan.edit", read_only=True) as work:
            [row] = work.session.scalars(scheme.find_schemes()).all()
            assert job.result["scheme_id"] == row.scheme_id
            assert job.result["plan_id"] == row.plan_id is not None
            assert (row.unit_id, row.made_by) == ("province", world.planner.account_id)
        whole = scheme.propose(
            service, world.planner, PRODUCT, unit_id="province", terms=order, as_of=AS_OF
        )
        assert row.content == whole.content  # as if designed at once

    def test_without_somebody_who_answers_for_it_nothing_is_designed(
        self, world: SimpleNamespace
    ) -> None:
        service, stop = world.service, threading.Event()
        job_id = submit(service.control, "scheme_design", product=PRODUCT, terms={})
        thread = threading.Thread(target=run_worker, args=(service,), kwargs={"stop": stop})
        thread.start()
        try:
            [job] = wait_ended(service.control, job_id)
        finally:
            stop.set()
            thread.join(30)
        assert job.state == "failed"
        assert "planner" in job.error["remedy"]
