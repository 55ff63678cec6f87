"""When checkpoints are due, and where epochs are cut for them."""

import pytest

from jaxnet.experiment.options.schedule import Schedule


@pytest.mark.parametrize(("text", "schedule"), [
    ("500", Schedule(500, "steps")), ("60s", Schedule(60, "seconds")), ("2epochs", Schedule(2, "epochs")),
    ("1epoch", Schedule(1, "epochs")), ("0", Schedule(0, "steps")),
])  # fmt: skip
def test_schedules_are_read(text, schedule):
    assert Schedule.read(text) == schedule


def test_cuts_lie_at_the_same_places_wherever_the_run_goes_on():
    schedule = Schedule(5, "steps")
    whole = schedule.cuts(0, batches=12, step=24, most=4)
    assert whole == [(0, 1), (1, 4), (4, 6), (6, 8), (8, 11), (11, 12)]
    for start, _ in whole:
        assert schedule.cuts(start, batches=12, step=24, most=4) == [cut for cut in whole if cut[0] >= start]
    assert Schedule(60, "seconds").cuts(3, batches=7, step=0, most=100) == [(3, 7)]
