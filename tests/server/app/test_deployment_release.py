"""Strategies that change in all channels at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from bihuan.server.app.deployment import (
    acknowledge,
    acknowledgements_of,
    current_release,
    current_releases,
    deploy_plan,
    publish_release,
    standing_release,
)
from bihuan.server.app.deployment.release import record_release, switch_to
from bihuan.server.app.errors import NotFoundError, RefusedError, StaleError
from bihuan.server.app.service import Service
from bihuan.server.control import PlanDeployment, StrategyHead, UnitOfWork

from . import deployment_world as world

ACTION = "strategy.publish"


@pytest.fixture
def live(service: Service, clock) -> PlanDeployment:
    clock.moment = world.NOON
    plan_id = world.fill(service)
    return deploy_plan(service, world.PLANNER, plan_id, as_of=world.AS_OF)


def publish(service: Service, unit: str = "county-a1", *deployments: str, **terms):
    with service.work(world.OPERATOR, ACTION) as work:
        return publish_release(
            work, service, unit, title="一号", deployment_ids=deployments, **terms
        )


class TestRelease:
    def test_every_channel_reads_its_part_of_one_release(self, service, live):
        release = publish(service, "county-a1", live.deployment_id)
        with service.system_work(read_only=True) as work:
            found = [current_release(work, "grid-a11", c) for c in world.CHANNELS]
        assert {f.release_id for f in found} == {release.release_id}
        planned = sum(s["planned"] for f in found for s in f.strategies)
        assert planned == live.planned
        for f in found:
            assert {s["offer_id"] for s in f.strategies} == set(world.OFFERS)
            assert {s["script_id"] for s in f.strategies} == {"words"}
            assert {s["lake_table"] for s in f.strategies} == {live.lake_table}

    def test_the_nearest_release_above_holds(self, service, live):
        below = publish(service, "grid-a11")
        above = publish(service, "county-a1", live.deployment_id)
        with service.system_work(read_only=True) as work:
            at = {
                unit: standing_release(work, unit, "sms").release_id
                for unit in ("grid-a11", "grid-a12", "county-a2")
            }
        assert at == {"grid-a11": below.release_id, "grid-a12": above.release_id, "county-a2": None}

    def test_the_same_again_is_the_standing_one(self, service, live):
        first = publish(service, "county-a1", live.deployment_id)
        again = publish(service, "county-a1", live.deployment_id)
        assert (again.release_id, again.number) == (first.release_id, 1)

    def test_who_looked_too_early_is_refused(self, service, live):
        publish(service, "county-a1", live.deployment_id, after=0)
        with pytest.raises(StaleError, match="Release 1 stands"):
            publish(service, "county-a1", after=0)

    def test_what_is_not_live_is_not_released(self, service, live):
        with service.system_work() as work:
            work.session.get_one(PlanDeployment, live.deployment_id).state = "completed"
        with pytest.raises(RefusedError, match="completed"):
            publish(service, "county-a1", live.deployment_id)

    def test_out_of_reach(self, service, live):
        with pytest.raises(NotFoundError):
            publish(service, "city-b")
        with pytest.raises(NotFoundError):
            publish(service, "county-a1", "no-such")

    def test_channels_say_when_they_follow(self, service, live, clock):
        release = publish(service, "county-a1", live.deployment_id)
        for seconds, channel in enumerate(world.CHANNELS, start=1):
            clock.advance(timedelta(seconds=1))
            with service.work(world.OPERATOR, ACTION) as work:
                row = acknowledge(work, release.release_id, channel, "county-a1")
                assert row.lag_seconds == seconds
        clock.advance(timedelta(hours=1))
        with service.work(world.OPERATOR, ACTION) as work:
            assert acknowledge(work, release.release_id, "sms", "county-a1").lag_seconds == 1
            found = acknowledgements_of(work, release.release_id)
        assert [row.channel for row in found] == list(world.CHANNELS)

    def test_an_old_release_cannot_be_acknowledged(self, service, live):
        old = publish(service, "county-a1", live.deployment_id)
        publish(service, "county-a1")
        with (
            pytest.raises(RefusedError, match="does not stand"),
            service.work(world.OPERATOR, ACTION) as work,
        ):
            acknowledge(work, old.release_id, "sms", "county-a1")

    def test_seats_below_read_what_the_unit_above_released(self, service, live):
        publish(service, "county-a1", live.deployment_id)
        grid = replace(
            world.OPERATOR, posts=(replace(world.OPERATOR.posts[0], unit_id="grid-a11"),)
        )
        with service.work(grid, "deployment.read", read_only=True) as work:
            assert len(standing_release(work, "grid-a11", "app").strategies) == len(world.OFFERS)


def strategies(number: int) -> list[dict]:
    """Strategies that carry their number in every channel."""
    channels = {c: {"script_id": str(number), "planned": number} for c in world.CHANNELS}
    return [
        {"strategy_id": f"s-{place}", "offer_id": "x", "channels": channels} for place in range(6)
    ]


def mixes_seen(
    service: Service,
    switch: Callable[[int], None],
    read: Callable[[UnitOfWork], list[int]],
    rounds: int,
) -> int:
    """Switch ``rounds`` times while two readers read all channels; return how often they differ."""
    done = threading.Event()

    def look() -> tuple[int, int]:
        mixed = looks = 0
        last = 0
        while not done.is_set() or not looks:
            with service.system_work(read_only=True) as work:
                seen = read(work)
            looks += 1
            mixed += len(set(seen)) > 1 or max(seen) < last
            last = max(seen)
        return mixed, looks

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(look) for _ in range(2)]
        try:
            for number in range(1, rounds + 1):
                switch(number)
        finally:
            done.set()
        found = [reader.result() for reader in readers]
    assert all(looks > 0 for _, looks in found)
    return sum(mixed for mixed, _ in found)


class TestAllAtOnce:
    def test_no_reader_ever_sees_some_old_and_some_new(self, service):
        def switch(number: int) -> None:
            with service.system_work() as work:
                items = strategies(number)
                switch_to(work, record_release(work, "county-a1", "x", items, None))

        def read(work: UnitOfWork) -> list[int]:
            found = current_releases(work, "grid-a11", world.CHANNELS)
            return [s["planned"] for part in found.values() for s in part.strategies] or [0]

        assert mixes_seen(service, switch, read, rounds=40) == 0

    def test_switching_channel_by_channel_is_caught(self, service):
        """The seeded defect: every channel has a head of its own, switched one after another."""
        heads = dict(zip(world.CHANNELS, ("county-a1", "grid-a11", "grid-a12"), strict=True))

        def switch(number: int) -> None:
            with service.system_work() as work:
                release = record_release(work, "city-a", "x", strategies(number), None)
            for unit in heads.values():
                with service.system_work() as work:
                    head = work.session.get(StrategyHead, unit) or StrategyHead(unit_id=unit)
                    head.release_id, head.number = release.release_id, release.number
                    head.switched_at = work.now
                    work.session.add(head)

        def read(work: UnitOfWork) -> list[int]:
            found = work.session.scalars(sa.select(StrategyHead)).all()
            by_unit = {head.unit_id: head.number for head in found}
            return [by_unit.get(unit, 0) for unit in heads.values()]

        found = next(
            (
                mixed
                for mixed in (mixes_seen(service, switch, read, 20) for _ in range(20))
                if mixed
            ),
            0,
        )
        assert found > 0

    def test_one_channel_sees_whole_releases_only_and_never_an_older_one(self, service):
        def switch(number: int) -> None:
            with service.system_work() as work:
                items = strategies(number)
                switch_to(work, record_release(work, "county-a1", "x", items, None))

        def read(work: UnitOfWork) -> list[int]:
            found = current_release(work, "grid-a11", "sms")
            return [s["planned"] for s in found.strategies] if found else [0]

        assert mixes_seen(service, switch, read, rounds=30) == 0

    def test_two_publishers_leave_one_line_of_releases(self, service):
        numbers = itertools.count(1)

        def publish_one(_: int) -> str:
            try:
                with service.system_work() as work:
                    items = strategies(next(numbers))
                    switch_to(work, record_release(work, "county-a1", "x", items, None))
            except (StaleError, RefusedError) as error:
                return type(error).__name__
            except Exception as error:  # noqa: BLE001 - a lost race, told by the database
                return type(error).__name__
            return "done"

        with ThreadPoolExecutor(4) as pool:
            ended = list(pool.map(publish_one, range(12)))
        with service.system_work(read_only=True) as work:
            head = work.session.get_one(StrategyHead, "county-a1")
            assert head.number == ended.count("done")
