"""Whether a gradient is better formed, once, before its norm and a total are read."""

# How often what is formed is gone through, and how much dearer its product is than the total's, in multiples of o i and
# of T o i: `scripts/benchmark.py forming` fits both to measured costs, see docs/readings.md.
READ, BATCHED = 0, 1


def worth_forming(t: int, o: int, i: int) -> bool:
    """With T positions at a weight (o, i): 2 T^2 (o + i) > (READ + BATCHED T) o i.

    On the left what the norm takes by pairs of positions. Formed, the gradient takes a product for each example, of
    2 T o i operations as the one product of the total has, but smaller ones; and then passes over o i numbers.
    """
    return 2 * t**2 * (o + i) > (READ + BATCHED * t) * o * i
