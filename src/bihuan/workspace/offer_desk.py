"""The offer desk: what is on sale, what it should cost, whom it suits, and plan changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.audience import parse
from bihuan.kernel import NotEstimable, UserError
from bihuan.offer import (
    AddonTiers,
    Catalogue,
    ContractFamily,
    Coverage,
    Facts,
    FairnessReport,
    FamilyFit,
    FamilyReport,
    Matching,
    Needs,
    Offer,
    PowerServices,
    ProductMatch,
    Scheme,
    SchemeOffer,
    StaffHint,
    addon_tiers,
    business_coverage,
    check_price_fairness,
    design_schemes,
    load_contract_family,
    load_matching,
    load_power_services,
    match_products,
    rank_offers,
    read_facts,
    require_fair_prices,
    split_readable,
)
from bihuan.tag import TagTable
from bihuan.workspace.place import Day, day_of
from bihuan.workspace.plan_upgrades import PlanUpgrades, facts_of_customer

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace


PLAN_TAG = "main_product"


@dataclass(frozen=True, slots=True)
class DeskMatch:
    """Offers matched to customers.

    Parameters
    ----------
    match
        Scores, totals, who suits.
    facts
        What was read of the customers.
    left_out
        Offers on sale that could not be judged, with the tags that have no values at that date.
    """

    match: ProductMatch
    facts: Facts
    left_out: Mapping[str, tuple[str, ...]]

    def table(self, *, top: int | None = 3, suited_only: bool = True) -> pa.Table:
        """Return one row per customer and offer, best first; see :meth:`ProductMatch.table`."""
        return self.match.table(top=top, suited_only=suited_only)

    def for_group(self, *, top: int | None = None) -> list[SchemeOffer]:
        """Return the offers that suit these customers as one group, best first."""
        return rank_offers(self.match, np.ones(len(self.facts), dtype=bool), top=top)

    def schemes(self, *, top: int = 3) -> tuple[Scheme, ...]:
        """Return a scheme of its own for each need group."""
        return design_schemes(self.match, self.facts, top=top)


class OfferDesk:
    """Everything about offers that needs no campaign.

    Parameters
    ----------
    workspace
        Where definitions, tags and data are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    # what is on sale

    def on_sale(self, day: Day | None = None) -> Catalogue:
        """Return the offers that may be sold on a day; None: today."""
        return self._ws.catalogue.on_sale(self._day(day))

    def coverage(self, day: Day | None = None, *, scope: str | None = None) -> Coverage:
        """Say which of the six business categories can be sold, with what and where.

        Parameters
        ----------
        day
            The day; None: today.
        scope
            Look at one scope of the catalogue only, e.g. the first to be taken up.
        """
        catalogue = self._ws.catalogue if scope is None else self._ws.catalogue.of_scope(scope)
        return business_coverage(catalogue, self._day(day))

    def launched(self, since: Day, until: Day | None = None) -> Catalogue:
        """Return the offers launched from a day on, until another or today."""
        return self._ws.catalogue.launched(day_of(since), self._day(until))

    def check_campaign(self, campaign_id: str, day: Day | None = None) -> tuple[Offer, ...]:
        """Return the campaign's offers if all may be sold when it starts, or on another day.

        Raises
        ------
        RetiredOfferError
            If one is no longer sold.
        NotOnSaleError
            If one is a draft or not yet sold.
        """
        campaign = self._ws.campaign(campaign_id)
        when = campaign.goal.starts_on if day is None else day_of(day)
        ids = (item.offer_id for item in campaign.mix)
        return self._ws.catalogue.require_on_sale(ids, when)

    # what it should cost

    def check_prices(self) -> FairnessReport:
        """Look for data packs that cost more on a higher plan tier."""
        return check_price_fairness(self._ws.catalogue, plan_tags=self._plan_tags())

    def require_fair_prices(self) -> FairnessReport:
        """Return the same report, or raise :class:`UnfairPriceError` naming what to change."""
        return require_fair_prices(self._ws.catalogue, plan_tags=self._plan_tags())

    def addon_tiers(  # noqa: PLR0913 - whom, how many, which sizes, and what either loss weighs
        self,
        as_of: Day,
        tiers: int = 3,
        *,
        sizes: Sequence[float] | None = None,
        months: int = 3,
        within: str = "everyone",
        overbought: float = 1.0,
        unmet: float = 1.0,
    ) -> AddonTiers | NotEstimable:
        """Set add-on pack sizes from what customers use beyond their plans.

        Parameters
        ----------
        as_of
            Newest month that is looked at.
        tiers
            How many sizes at most.
        sizes
            Sizes in MB that can be sold; None: those that occur.
        months
            Mean over so many months of table ``data_usage``, column ``overage_mb``.
        within
            Whose consumption, e.g. that of one city.
        overbought, unmet
            Loss per MB sold and not used, and per MB used and not covered.
        """
        day = day_of(as_of)
        usage = self._consumption(day, months)
        facts = self._facts(Needs(), self._ws.tags(day), within)
        at = pc.index_in(facts.ids, value_set=usage["customer_id"].combine_chunks())
        mb = usage["overage_mb"].take(at).to_numpy()
        return addon_tiers(mb, tiers, sizes=sizes, overbought=overbought, unmet=unmet)

    # whom it suits

    def matching(self, name: str = "standard") -> Matching:
        """Return the principles of ``matching/<name>.yaml``."""
        return load_matching(self._ws.layout.find_definition("matching", name))

    @property
    def matchings(self) -> dict[str, Matching]:
        """All principles of ``matching/``, by the name of the file."""
        folder = self._ws.layout.definitions("matching")
        return {file.stem: load_matching(file) for file in sorted(folder.glob("*.yaml"))}

    def match(
        self,
        as_of: Day,
        *,
        matching: str = "standard",
        within: str = "everyone",
        offers: Iterable[str] | None = None,
    ) -> DeskMatch:
        """Match offers to the customers of an audience by the principles.

        Parameters
        ----------
        as_of
            Date of the tags.
        matching
            Name of the principles.
        within
            The target group.
        offers
            Offer ids; None: all on sale today.
        """
        principles, tags = self.matching(matching), self._ws.tags(as_of)
        chosen, left_out = split_readable(self._chosen(offers), tags.fields)
        facts = self._facts(principles.needs(chosen), tags, within)
        return DeskMatch(match_products(chosen, principles, facts), facts, left_out)

    def match_customer(
        self,
        customer_id: str,
        as_of: Day,
        *,
        matching: str = "standard",
        offers: Iterable[str] | None = None,
    ) -> DeskMatch:
        """Match offers to one customer from the profile in memory, by the same code.

        Parameters
        ----------
        customer_id
            Whom.
        as_of, matching, offers
            As for :meth:`match`.
        """
        principles, tags = self.matching(matching), self._ws.tags(as_of)
        chosen, left_out = split_readable(self._chosen(offers), tags.fields)
        facts = facts_of_customer(principles.needs(chosen), tags, customer_id)
        return DeskMatch(match_products(chosen, principles, facts), facts, left_out)

    # exclusive contracts

    def contract_family(self, name: str) -> ContractFamily:
        """Return the family of ``contract_family/<name>.yaml``."""
        return load_contract_family(self._ws.layout.find_definition("contract_family", name))

    def check_family(self, name: str) -> FamilyReport:
        """Say which slots of a family are filled and empty, and what is wrong with it."""
        return self.contract_family(name).check(self._ws.catalogue)

    def family_fit(self, name: str, as_of: Day, *, cohort: str | None = None) -> FamilyFit:
        """Count whom each contract of a family admits, whom two do, and whom none.

        Parameters
        ----------
        name
            Name of the contract family.
        as_of
            Date of the tags.
        cohort
            Only customers of this snapshot cohort (拍照客户); None: the family's whole audience.
        """
        family = self.contract_family(name)
        needs, tags = family.needs(self._ws.catalogue), self._ws.tags(as_of)
        facts = read_facts(needs, tags, engine=self._ws.engine)
        members: pa.Array | None = None
        if cohort is not None:
            frozen = self._ws.cohorts.get(cohort)
            rows = frozen.stored.read([frozen.id_column, "in_cohort"])
            members = rows.filter(rows["in_cohort"])[frozen.id_column].combine_chunks()
        return family.fit(self._ws.catalogue, facts, members=members)

    def exclusive_script(
        self, family: str, offer_id: str, script: Mapping[str, str]
    ) -> dict[str, str]:
        """Return a script with the family's words of VIP status and exclusive service.

        Parameters
        ----------
        family
            Name of the contract family.
        offer_id
            What is offered; an offer that is not exclusive leaves the script as it is.
        script
            What is said, by language.
        """
        return self.contract_family(family).wording(script, self._ws.catalogue.get(offer_id))

    # power services

    def power_services(self, name: str = "classes") -> PowerServices:
        """Return the arrangement of ``power_services/<name>.yaml``."""
        path = self._ws.layout.find_definition("power_services", name)
        return load_power_services(path, self._ws.catalogue)

    def power_classes(
        self, as_of: Day, *, name: str = "classes", within: str = "everyone"
    ) -> pa.Table:
        """Return class, entitlements and offers of each power customer.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            Name of the arrangement.
        within
            Of whom.

        Returns
        -------
        pyarrow.Table
            See :meth:`PowerServices.arrange`.
        """
        services = self.power_services(name)
        needs, tags = services.needs(self._ws.catalogue), self._ws.tags(as_of)
        _require_values(needs, tags)
        facts = self._facts(needs, tags, within)
        return services.arrange(self._ws.catalogue, facts)

    def power_hint(self, customer_id: str, as_of: Day, *, name: str = "classes") -> StaffHint:
        """Return what staff see of one customer before they speak.

        Parameters
        ----------
        customer_id
            Whom.
        as_of
            Date of the tags.
        name
            Name of the arrangement.
        """
        services = self.power_services(name)
        needs, tags = services.needs(self._ws.catalogue), self._ws.tags(as_of)
        _require_values(needs, tags)
        facts = facts_of_customer(needs, tags, customer_id)
        return services.hint(self._ws.catalogue, facts)

    def position_channels(self, as_of: Day, *, name: str = "classes") -> pa.Table:
        """Say into which channel each class's business belongs.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            Name of the arrangement.

        Returns
        -------
        pyarrow.Table
            See :meth:`PowerServices.position_channels`.
        """
        services = self.power_services(name)
        needs, tags = services.needs(self._ws.catalogue), self._ws.tags(as_of)
        _require_values(needs, tags)
        facts = read_facts(needs, tags, engine=self._ws.engine)
        return services.position_channels(facts)

    # plan changes

    @cached_property
    def upgrades(self) -> PlanUpgrades:
        """The tier each line can upgrade to, and plan changes in one click."""
        return PlanUpgrades(self._ws)

    # reading

    def _day(self, day: Day | None) -> date:
        return self._ws.clock.now().date() if day is None else day_of(day)

    def _plan_tags(self) -> tuple[str, ...]:
        """Return how an audience may name the tag of a customer's plan: by name or title."""
        tag = self._ws.dictionary.find(PLAN_TAG)
        return (PLAN_TAG,) if tag is None else (PLAN_TAG, *tag.title.values())

    def _chosen(self, offers: Iterable[str] | None) -> list[Offer]:
        if offers is None:
            return list(self.on_sale())
        return list(self._ws.catalogue.require_on_sale(offers, self._day(None)))

    def _facts(self, needs: Needs, tags: TagTable, within: str) -> Facts:
        return read_facts(needs, tags, engine=self._ws.engine, within=parse(within))

    def _consumption(self, day: date, months: int) -> pa.Table:
        days = [d for d in self._ws.view.dates("data_usage") if d <= day][-months:]
        if not days:
            raise UserError(
                "There is no data_usage up to that date, so use beyond the plan is not known.",
                remedy="Take in table data_usage with customer_id and overage_mb.",
                zh="该日期之前没有 data_usage 数据，无法得知套外流量。请先接入该表。",
            )
        each = [
            self._ws.view.get("data_usage", d)
            .read(["customer_id", "overage_mb"])
            .group_by("customer_id")
            .aggregate([("overage_mb", "sum")])
            for d in days
        ]  # a month's lines together, then the mean of the months in which there are any
        mean = (
            pa.concat_tables(each).group_by("customer_id").aggregate([("overage_mb_sum", "mean")])
        )
        return mean.rename_columns({"overage_mb_sum_mean": "overage_mb"})


def _require_values(needs: Needs, tags: TagTable) -> None:
    """Refuse to arrange power services where customers have no power data."""
    missing = needs.missing(tags.fields)
    if missing:
        names = ", ".join(missing)
        raise UserError(
            f"Power services ask for tags without values at {tags.as_of}: {names}.",
            remedy="Take in the power tables and derive the customer tags of that date.",
            zh=f"电力服务所需标签在 {tags.as_of} 没有值：{names}。"
            "请先接入电力数据表并派生客户标签。",
        )
