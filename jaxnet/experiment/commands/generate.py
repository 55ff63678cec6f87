"""Text that a trained network writes, printed as it comes."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from jaxnet.experiment.commands.train import device
from jaxnet.experiment.console.errors import BadInput, heed_interrupt
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.storage import model_file, newest
from jaxnet.experiment.storage.written import written

# On a terminal other signs than these could do anything to it.
HARMLESS = "\n\t"
HIDDEN = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in HARMLESS}


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """Write text with a network that `jaxnet train` trained on text."""

    WORD: ClassVar = "--prompt"
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run; of one that is not finished, the newest checkpoint counts."""
    prompt: str = ""
    """The text to go on from; by default the end of a line. Of one that is longer than the network's context, the end
    counts."""
    length: int = 500
    """How many tokens to write: characters, bytes or pieces, as the run's --tokens."""
    temperature: float = 1.0
    """Below 1 what is probable becomes more so, above 1 less; 0: always the most probable token."""
    top_k: int | None = None
    """Draw from so many of the most probable tokens; by default from all."""
    seed: int = 0
    """Decides what is drawn: the same text for the same seed."""


def main() -> None:
    """`generate`, with this process's command line."""
    generate(parse(GenerateConfig))


def generate(config: GenerateConfig) -> None:
    """Prints the prompt and what the network writes after it.

    Raises:
      BadInput: when the run learnt no text, or an option is out of its range.
      KeyboardInterrupt: saying how far it came.
    """
    trained = model_file.load(newest.place(Path(config.run)))
    if trained.tokens is None:
        raise BadInput(f"{config.run}: learnt no text, and writes none; `jaxnet predict` predicts with it")
    pieces = written(
        trained,
        config.prompt,
        config.length,
        temperature=config.temperature,
        top_k=config.top_k,
        seed=config.seed,
    )
    say(f"device     {device()}", sys.stderr)
    many = 0
    try:
        _print(config.prompt)
        for piece in pieces:
            heed_interrupt()
            _print(piece)
            many += len(piece)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"after {many} characters") from None
    finally:
        # Also what is cut short ends with a line, so that the next one begins there.
        _print("\n")


def _print(text):
    print(text.translate(HIDDEN) if sys.stdout.isatty() else text, end="", flush=True)
