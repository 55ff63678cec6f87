"""When checkpoints are due, and where epochs are cut for them."""

import pytest

from jaxnet.experiment.options.cadence import Cadence


@pytest.mark.parametrize(("text", "cadence"), [
    ("500", Cadence(500, "steps")), ("60s", Cadence(60, "seconds")), ("2epochs", Cadence(2, "epochs")),
    ("1epoch", Cadence(1, "epochs")), ("0", Cadence(0, "steps")),
])  # fmt: skip
def test_cadences_are_read(text, cadence):
    assert Cadence.read(text) == cadence


def test_cuts_lie_at_the_same_places_wherever_the_run_goes_on():
    cadence = Cadence(5, "steps")
    whole = cadence.cuts(0, batches=12, step=24, most=4)
    assert whole == [(0, 1), (1, 4), (4, 6), (6, 8), (8, 11), (11, 12)]
    for start, _ in whole:
        assert cadence.cuts(start, batches=12, step=24, most=4) == [cut for cut in whole if cut[0] >= start]
    assert Cadence(60, "seconds").cuts(3, batches=7, step=0, most=100) == [(3, 7)]
