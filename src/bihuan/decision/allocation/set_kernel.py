"""Loops over customers who may get several contacts: the best set that the rules allow, exactly.

A relaxation with one row per conflict is weak (some ten per cent too high on the public
instances). So each customer's part is solved as it is, by branch and bound over the few candidates
worth anything at the present prices; the second best set tells the margin. The functions mirror
those of :mod:`bihuan.decision.allocation.kernel`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bihuan.decision.allocation.kernel import key_of, net_of

_BLOCK = 1024


@njit(cache=True, nogil=True)
def _list_items(i, shift, market, jitter, slack, is_needed, item, net):
    """List the pairs of customer i that may be worth something, best first; return how many."""
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, _) = market
    g = group[i]
    key = key_of(i, keys, first_key)
    n = 0
    for e in range(start[i], start[i + 1]):
        j = candidate[e]
        worth = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
        if worth + shift * slack[g, j] > 0 or is_needed[j]:
            at = n
            while at > 0 and net[at - 1] < worth:
                net[at], item[at] = net[at - 1], item[at - 1]
                at -= 1
            net[at], item[at] = worth, e
            n += 1
    return n


@njit(cache=True, nogil=True)
def _fits(j, depth, stack, item, candidate, conflict, window, most_in):
    """Whether candidate j may join the set on the stack."""
    for d in range(depth):
        if conflict[j, candidate[item[stack[d]]]]:
            return False
    for w in range(len(most_in)):
        if window[w, j]:
            count = 1
            for d in range(depth):
                if window[w, candidate[item[stack[d]]]]:
                    count += 1
            if count > most_in[w]:
                return False
    return True


@njit(cache=True, nogil=True)
def _is_closed(depth, stack, item, candidate, follows):
    """Whether every member that follows another one has it in the set."""
    for d in range(depth):
        wanted = follows[candidate[item[stack[d]]]]
        if wanted >= 0:
            has = False
            for other in range(depth):
                if candidate[item[stack[other]]] == wanted:
                    has = True
            if not has:
                return False
    return True


@njit(cache=True, nogil=True)
def _best_sets(
    n, item, net, candidate, conflict, window, most_in, follows, most, stack, best_set, rival_set
):
    """Find the best and the second best set; return their worths and sizes."""
    best, second = 0.0, -np.inf
    size, rival_size = 0, 0
    depth, here, current = 0, 0, 0.0
    while True:
        reach = current
        for at in range(here, min(here + most - depth, n)):
            if net[at] > 0:
                reach += net[at]
        if depth < most and here < n and reach > second:
            j = candidate[item[here]]
            if _fits(j, depth, stack, item, candidate, conflict, window, most_in):
                stack[depth] = here
                depth += 1
                current += net[here]
                if _is_closed(depth, stack, item, candidate, follows):
                    if current > best:
                        second, rival_size = best, size
                        for d in range(size):
                            rival_set[d] = best_set[d]
                        best, size = current, depth
                        for d in range(depth):
                            best_set[d] = item[stack[d]]
                    elif current > second:
                        second, rival_size = current, depth
                        for d in range(depth):
                            rival_set[d] = item[stack[d]]
            here += 1
        elif depth == 0:
            break
        else:
            depth -= 1
            here = stack[depth] + 1
            current -= net[stack[depth]]
    return best, second, size, rival_size


@njit(cache=True, nogil=True)
def _without(size, members, other_size, others, left):
    """Write the members that are not among the others; return how many."""
    n = 0
    for a in range(size):
        is_other = False
        for b in range(other_size):
            if members[a] == others[b]:
                is_other = True
        if not is_other:
            left[n] = members[a]
            n += 1
    return n


@njit(cache=True, nogil=True)
def _longest(first, last, start):
    longest = 1
    for i in range(first, last):
        longest = max(longest, start[i + 1] - start[i])
    return longest


@njit(cache=True, nogil=True)
def price_sets(first, last, market, weight, wide, rules, counts, measured, table):
    """As ``price_part``; a change from one set to another is counted member by member."""
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    conflict, window, most_in, follows, is_needed, most = rules
    none = tariff.shape[1]
    longest = _longest(first, last, start)
    item, net = np.empty(longest, np.int64), np.empty(longest)
    stack, chosen, rival = (
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
    )
    out, into = np.empty(most, np.int64), np.empty(most, np.int64)
    total, block = 0.0, 0.0
    for i in range(first, last):
        g = group[i]
        n = _list_items(i, 0.0, market, jitter, tariff, is_needed, item, net)
        best, second, size, rival_size = _best_sets(
            n, item, net, candidate, conflict, window, most_in, follows, most, stack, chosen, rival
        )
        block += best * weight[g]
        if i % _BLOCK == 0:
            total += block
            block = 0.0
        for d in range(size):
            j = candidate[chosen[d]]
            counts[g, j] += 1
            for k in range(len(measures)):
                measured[k, g, j] += np.float64(measures[k, chosen[d]])
        n_out = _without(size, chosen, rival_size, rival, out)
        n_into = _without(rival_size, rival, size, chosen, into)
        width = 0.0
        for d in range(n_out):
            width = max(width, wide[candidate[out[d]]])
        for d in range(n_into):
            width = max(width, wide[candidate[into[d]]])
        if best - second < width:
            for d in range(max(n_out, n_into)):
                a = np.int64(candidate[out[d]]) if d < n_out else none
                b = np.int64(candidate[into[d]]) if d < n_into else none
                table[g, a, b] += 1.0 / width
    return total + block


@njit(cache=True, nogil=True)
def choose_sets(first, last, market, rules, choice, counts, measured):
    """As ``choose_part``; ``choice`` has a column per contact, -1 where there is none."""
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    conflict, window, most_in, follows, is_needed, most = rules
    longest = _longest(first, last, start)
    item, net = np.empty(longest, np.int64), np.empty(longest)
    stack, chosen, rival = (
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
    )
    item_plain, net_plain = np.empty(longest, np.int64), np.empty(longest)
    plain = np.empty(most, np.int64)
    total, worth, block, block_worth = 0.0, 0.0, 0.0, 0.0
    for i in range(first, last):
        g = group[i]
        n = _list_items(i, 0.0, market, jitter, tariff, is_needed, item, net)
        best, _, size, _ = _best_sets(
            n, item, net, candidate, conflict, window, most_in, follows, most, stack, chosen, rival
        )
        if jitter > 0:
            other = _list_items(i, 0.0, market, 0.0, tariff, is_needed, item_plain, net_plain)
            best, _, _, _ = _best_sets(
                other,
                item_plain,
                net_plain,
                candidate,
                conflict,
                window,
                most_in,
                follows,
                most,
                stack,
                plain,
                rival,
            )
        block += best
        if choice[i, 0] >= -1:
            size = 0
            for d in range(most):
                for e in range(start[i], start[i + 1]):
                    if choice[i, d] == candidate[e]:
                        chosen[size] = e
                        size += 1
        else:
            for d in range(most):
                choice[i, d] = candidate[chosen[d]] if d < size else -1
        for d in range(size):
            j = candidate[chosen[d]]
            block_worth += np.float64(value[chosen[d]])
            counts[g, j] += 1
            for k in range(len(measures)):
                measured[k, g, j] += np.float64(measures[k, chosen[d]])
        if i % _BLOCK == 0:
            total += block
            worth += block_worth
            block, block_worth = 0.0, 0.0
    return total + block, worth + block_worth


@njit(cache=True, nogil=True)
def mark_sets(first, last, market, slack, rules, kept, counts, measured):
    """As ``mark_core``: a customer is fixed if no other set can overtake the best one."""
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    conflict, window, most_in, follows, is_needed, most = rules
    longest = _longest(first, last, start)
    item, net = np.empty(longest, np.int64), np.empty(longest)
    stack, chosen, rival = (
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
    )
    worth, block, customers, pairs = 0.0, 0.0, 0, 0
    for i in range(first, last):
        g = group[i]
        n = _list_items(i, 1.0, market, jitter, slack, is_needed, item, net)
        best, second, size, _ = _best_sets(
            n, item, net, candidate, conflict, window, most_in, follows, most, stack, chosen, rival
        )
        reach, widest = 0.0, 0.0
        for at in range(n):
            widest = max(widest, slack[g, candidate[item[at]]])
        for d in range(size):
            reach += slack[g, candidate[chosen[d]]]
        reach += most * widest
        if n > 0 and best - second <= reach:
            kept[i] = n
            customers += 1
            pairs += n
        else:
            kept[i] = 0
            for d in range(size):
                j = candidate[chosen[d]]
                counts[g, j] += 1
                block += np.float64(value[chosen[d]])
                for k in range(len(measures)):
                    measured[k, g, j] += np.float64(measures[k, chosen[d]])
        if i % _BLOCK == 0:
            worth += block
            block = 0.0
    return worth + block, customers, pairs


@njit(cache=True, nogil=True)
def copy_sets(
    first,
    last,
    market,
    slack,
    rules,
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
    """As ``copy_core``; the pairs of a customer stay in their order."""
    (start, candidate, value, group, measures, tariff, rates, keys, first_key, words, jitter) = (
        market
    )
    is_needed = rules[4]
    for i in range(first, last):
        if kept[i] == 0:
            continue
        g = group[i]
        key = key_of(i, keys, first_key)
        for e in range(start[i], start[i + 1]):
            j = candidate[e]
            net = net_of(e, j, g, key, value, measures, tariff, rates, words, jitter)
            if net + slack[g, j] > 0 or is_needed[j]:
                core_candidate[next_pair] = candidate[e]
                core_value[next_pair] = value[e]
                for k in range(len(measures)):
                    core_measures[k, next_pair] = measures[k, e]
                next_pair += 1
        customer[next_customer] = i
        core_group[next_customer] = g
        core_key[next_customer] = key
        next_customer += 1
        core_start[next_customer] = next_pair
