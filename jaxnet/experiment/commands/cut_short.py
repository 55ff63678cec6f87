"""How a run that is cut short says what it left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.storage.standing import contents


@contextmanager
def telling(out: Path, device: Callable[[], str]) -> Iterator[None]:
    """What ends the block early is told with what the run's folder holds.

    Args:
      out: the folder.
      device: () -> what the run is on.

    Raises:
      KeyboardInterrupt, Failure: as it was, with more words.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(contents(out)) from None
    except BadInput:
        # Refused: the folder is as it was.
        raise
    except Failure as failure:
        raise type(failure)(f"{failure}; {contents(out)}".removeprefix("; ")) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise Failure(f"{error.filename}: {error.strerror}; {contents(out)}") from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise Failure(f"out of memory on {device()}; lower --batch-size or train a smaller network") from None
