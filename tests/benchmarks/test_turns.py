"""Measurements in turns: everyone once in every round, and not always after the same one."""

from benchmarks.turns import turns

EVERYONE = ("ours", "theirs", "another's", "a heavy one")


def test_everyone_has_a_turn_in_every_round_in_the_same_order_whenever_it_is_asked():
    order = list(turns(EVERYONE, 3))
    rounds = [order[i : i + 4] for i in (0, 4, 8)]
    assert all(sorted(of_round) == sorted(EVERYONE) for of_round in rounds)
    assert order == list(turns(EVERYONE, 3))


def test_nobody_follows_the_same_one_in_every_round():
    order = list(turns(EVERYONE, 4))
    for one in EVERYONE:
        before = {order[i - 1] for i in range(1, len(order)) if order[i] == one}
        assert len(before) > 1
