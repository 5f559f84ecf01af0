"""Loops over customers that Numba compiles: who takes what at given prices.

Every function works on customers ``first`` up to ``last``, writes only into arrays of its own part
and releases the interpreter lock, so the cores share a pass. A customer's pairs stand side by
side; ``none`` (index J, worth 0) is always open.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_FINE = 2.0**-24
_BLOCK = 1024  # customers whose sum is kept apart, so that rounding stays far below the answer


@njit(cache=True, nogil=True, inline="always")
def net_of(e, j, g, key, value, measures, tariff, rates, words, jitter):
    """Return the value of pair e less its charge, with a grain of chance that breaks ties.

    The grain is spread evenly over keys and differs between candidates; it stays below ``jitter``.
    """
    net = np.float64(value[e]) - tariff[g, j]
    for k in range(measures.shape[0]):
        net -= np.float64(measures[k, e]) * rates[k, g, j]
    return net + jitter * (np.float64((key * words[j]) >> np.uint64(40)) * _FINE)


@njit(cache=True, nogil=True, inline="always")
def key_of(i, keys, first_key):
    """Return what tells customer i apart, wherever the customer was copied to."""
    if len(keys):
        return np.uint64(keys[i])
    return np.uint64(first_key + i)


@njit(cache=True, nogil=True)
def price_part(first, last, market, weight, wide, counts, measured, table):
    """Let every customer take the best pair, and count who takes what.

    Counts are by (group, candidate); ``table`` gets, by (group, best, second best), the density
    of customers who are about to change from one to the other: 1 / width for each whose margin is
    below the greater width of the two. Returns the weighted sum of what customers get.
    """
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    none = tariff.shape[1]
    n_measures = measures.shape[0]
    widest = wide.max()
    total = 0.0
    block = 0.0
    for i in range(first, last):
        g = group[i]
        best, second = 0.0, -np.inf
        at = np.int64(-1)
        key = key_of(i, keys, first_key)
        for e in range(start[i], start[i + 1]):
            net = net_of(e, candidate[e], g, key, value, measures, tariff, rates, words, jitter)
            second = max(second, min(best, net))  # selections, not branches: those would be
            at = np.int64(e) if net > best else at  # guessed wrong too often
            best = max(best, net)
        chosen = none
        if at >= 0:
            chosen = np.int64(candidate[at])
            for k in range(n_measures):
                measured[k, g, chosen] += np.float64(measures[k, at])
        block += best * weight[g]
        if i % _BLOCK == 0:
            total += block
            block = 0.0
        counts[g, chosen] += 1
        if best - second < widest:  # few: only now it matters who is second
            rival = none
            for e in range(start[i], start[i + 1]):
                if e != at:
                    j = candidate[e]
                    net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
                    if net == second:
                        rival = np.int64(j)
            width = max(wide[chosen], wide[rival])
            if best - second < width:
                table[g, chosen, rival] += 1.0 / width
    return total + block


@njit(cache=True, nogil=True)
def choose_part(first, last, market, choice, counts, measured):
    """Write every customer's best candidate (-1 none) and return value taken and value less charge.

    A customer whose ``choice`` is already decided (>= -1) keeps it and is only counted; -2 means
    open. What customers would get at best is summed without the grain that breaks ties.
    """
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    n_measures = measures.shape[0]
    total, worth, block, block_worth = 0.0, 0.0, 0.0, 0.0
    for i in range(first, last):
        g = group[i]
        key = key_of(i, keys, first_key)
        best, honest = 0.0, 0.0
        chosen = np.int64(-1)
        given = np.int64(choice[i])
        at = kept = np.int64(start[i])
        for e in range(start[i], start[i + 1]):
            j = np.int64(candidate[e])
            plain = net_of(e, j, g, key, value, measures, tariff, rates, words, 0.0)
            net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
            honest = max(honest, plain)
            if net > best:
                best, chosen, at = net, j, np.int64(e)
            if j == given:
                kept = np.int64(e)
        block += honest
        if given >= -1:
            chosen = given
            at = kept
        else:
            choice[i] = chosen
        if chosen >= 0:
            block_worth += np.float64(value[at])
            counts[g, chosen] += 1
            for k in range(n_measures):
                measured[k, g, chosen] += np.float64(measures[k, at])
        if i % _BLOCK == 0:
            total += block
            worth += block_worth
            block, block_worth = 0.0, 0.0
    return total + block, worth + block_worth


@njit(cache=True, nogil=True)
def mark_core(first, last, market, slack, kept, counts, measured):
    """Count the pairs of every customer that may be the best while prices move within ``slack``.

    Customers with one possible answer are fixed: ``kept`` is 0 and their answer is counted.
    Returns the value that the fixed ones take, and how many customers and pairs are undecided.
    """
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    n_measures = measures.shape[0]
    widest = np.zeros(slack.shape[0])
    for g in range(len(widest)):
        widest[g] = slack[g].max()
    worth, block, customers, pairs = 0.0, 0.0, 0, 0
    for i in range(first, last):
        g = group[i]
        key = key_of(i, keys, first_key)
        best, second = 0.0, -np.inf
        at = np.int64(-1)
        for e in range(start[i], start[i + 1]):
            net = net_of(e, candidate[e], g, key, value, measures, tariff, rates, words, jitter)
            second = max(second, min(best, net))
            at = np.int64(e) if net > best else at
            best = max(best, net)
        rivals = 0
        chosen = np.int64(-1) if at < 0 else np.int64(candidate[at])
        if best - second <= 2.0 * widest[g]:  # few: only they have to be looked at closely
            floor = 0.0
            chosen = np.int64(-1)
            for e in range(start[i], start[i + 1]):
                j = np.int64(candidate[e])
                net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
                low = net - slack[g, j]
                if low > floor:
                    floor, chosen, at = low, j, np.int64(e)
            for e in range(start[i], start[i + 1]):
                j = np.int64(candidate[e])
                net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
                if net + slack[g, j] > floor and j != chosen:
                    rivals += 1
        if rivals > 0:
            if chosen >= 0:
                rivals += 1
            kept[i] = rivals
            customers += 1
            pairs += rivals
        else:
            kept[i] = 0
            if chosen >= 0:
                counts[g, chosen] += 1
                block += np.float64(value[at])
                for k in range(n_measures):
                    measured[k, g, chosen] += np.float64(measures[k, at])
        if i % _BLOCK == 0:
            worth += block
            block = 0.0
    return worth + block, customers, pairs


@njit(cache=True, nogil=True)
def copy_core(
    first,
    last,
    market,
    slack,
    kept,
    customer,
    core_start,
    core_candidate,
    core_value,
    core_group,
    core_measures,
    core_key,
    next_customer,
    next_pair,
):
    """Copy the undecided customers and their possible pairs, from the given places on."""
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    n_measures = measures.shape[0]
    for i in range(first, last):
        if kept[i] == 0:
            continue
        g = group[i]
        key = key_of(i, keys, first_key)
        floor = 0.0
        chosen = np.int64(-1)
        for e in range(start[i], start[i + 1]):
            j = np.int64(candidate[e])
            net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
            low = net - slack[g, j]
            if low > floor:
                floor, chosen = low, j
        for e in range(start[i], start[i + 1]):
            j = np.int64(candidate[e])
            net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
            high = net + slack[g, j]
            if high > floor or j == chosen:
                core_candidate[next_pair] = candidate[e]
                core_value[next_pair] = value[e]
                for k in range(n_measures):
                    core_measures[k, next_pair] = measures[k, e]
                next_pair += 1
        customer[next_customer] = i
        core_group[next_customer] = g
        core_key[next_customer] = key
        next_customer += 1
        core_start[next_customer] = next_pair


@njit(cache=True, nogil=True)
def step_in_box(row_start, column, entry, diagonal, gradient, low, high, sweeps, enough):
    """Minimise d'Hd / 2 + gradient'd within a box, by cyclic coordinate descent.

    ``H`` is symmetric and sparse by rows; ``diagonal`` is positive.
    """
    n = len(gradient)
    step = np.zeros(n)
    residual = gradient.copy()
    for _ in range(sweeps):
        most = 0.0
        for i in range(n):
            wanted = step[i] - residual[i] / diagonal[i]
            wanted = min(max(wanted, low[i]), high[i])
            moved = wanted - step[i]
            if moved != 0.0:
                step[i] = wanted
                for at in range(row_start[i], row_start[i + 1]):
                    residual[column[at]] += entry[at] * moved
                most = max(most, abs(moved) * diagonal[i])
        if most < enough:
            break
    return step


@njit(cache=True, nogil=True)
def count_open(first, last, dense, size):
    """Count the open cells (value > 0) of dense rows; return the first infinite row, or -1."""
    for i in range(first, last):
        count = 0
        for j in range(dense.shape[1]):
            v = dense[i, j]
            if v > 0:
                if v == np.inf:
                    return i
                count += 1
            elif v == -np.inf:
                return i
        size[i] = count
    return -1


@njit(cache=True, nogil=True)
def copy_open(first, last, dense, start, candidate, value):
    """Copy the open cells of dense rows side by side."""
    for i in range(first, last):
        at = start[i]
        for j in range(dense.shape[1]):
            if dense[i, j] > 0:
                candidate[at] = j
                value[at] = dense[i, j]
                at += 1


@njit(cache=True, nogil=True)
def worth_part(first, last, start, candidate, value, contacts):
    """Add up what given contacts are worth; also count those that are not open pairs."""
    total, block, unknown = 0.0, 0.0, 0
    for i in range(first, last):
        for d in range(contacts.shape[1]):
            wanted = contacts[i, d]
            if wanted < 0:
                continue
            is_open = False
            for e in range(start[i], start[i + 1]):
                if candidate[e] == wanted:
                    block += np.float64(value[e])
                    is_open = True
                    break
            if not is_open:
                unknown += 1
        if i % _BLOCK == 0:
            total += block
            block = 0.0
    return total + block, unknown
