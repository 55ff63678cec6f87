"""Trees of arrays, compared with one another."""

import chex


def assert_trees_equal(actual, expected, rtol=1e-12, atol=1e-15):
    """They have one structure, and are equal but for 64-bit sums in another order."""
    chex.assert_trees_all_close(actual, expected, rtol=rtol, atol=atol)
