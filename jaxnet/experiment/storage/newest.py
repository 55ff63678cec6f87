"""Where a run's model is, also of a run that has not come to its end."""

import sys
from pathlib import Path

from jaxnet.experiment.storage import checkpoint, standing
from jaxnet.experiment.storage.model_file import FILE


def place(run: Path) -> Path:
    """The folder with the run's model: its own, or, before its end, that of its newest whole checkpoint.

    Which one, is told on stderr, where it is not that of the run's end.
    """
    if not run.exists():
        return run
    if (run / FILE).is_file():
        went_on = standing.epochs_since_the_end(run)
        if went_on is not None:
            of, to = went_on
            since = f"the run went on to epoch {to} since, and is not finished"
            print(f"model      {run / FILE}: after epoch {of}; {since}", file=sys.stderr)
        return run
    newest, passed_over = checkpoint.newest_with(run, FILE)
    for line in passed_over:
        print(f"passed over {line}", file=sys.stderr)
    if newest is None:
        return run
    print(
        f"model      {newest / FILE}: the run is not finished; `jaxnet train --resume {run}` goes on", file=sys.stderr
    )
    return newest
