"""From a table as it was read to what a run learns from."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxnet.experiment.data import texts, windows
from jaxnet.experiment.data.fingerprint import fingerprint, joint
from jaxnet.experiment.data.image_form import ImageForm
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.scaling import Scale
from jaxnet.experiment.data.split import FRACTIONS, Fractions, Split, split
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.data.tokens import Tokens
from jaxnet.experiment.devices import processes
from jaxnet.experiment.options.train_config import LossName, OutputActivation


class Examples(NamedTuple):
    """All that a run needs of its data. Raw numbers in memory are not among it: they are let go.

    Attributes:
      name: of the data set or path that they came from, for messages.
      left_out: columns of the file that are no features.
      notes: what was found out of the file while it was read.
      image: whether all features have one scale in common.
      problem: what is to be learnt, with the targets' scaling.
      parts: scaled examples, to learn from and to be judged by.
      fingerprint: of the raw data, by which they are known again.
      joint_fingerprint: of these and the files of validation and test part, if there are any.
      beside: columns of the file that are neither features nor targets, for whatever reason.
      tokens: of a text; None for other data.
      form: of a folder of images; None for other data.
    """

    name: str
    left_out: Mapping[str, str]
    notes: tuple[str, ...]
    image: bool
    problem: Problem
    parts: Split
    fingerprint: str
    joint_fingerprint: str
    beside: tuple[str, ...]
    tokens: Tokens | None = None
    form: ImageForm | None = None


def prepare_text(
    source: str, tokens: str, context: int, batch_size: int, epoch_steps: int | None, *, stream: bool, disjoint: bool
) -> Examples:
    """Reads a text, cuts it into tokens, and holds its end out.

    Args:
      source: see `texts.read`.
      tokens, context, batch_size, epoch_steps, stream: of the options.
      disjoint: whether no token is in two of the examples to learn from.

    Raises:
      BadInput: when it cannot be read, or is too short.
    """
    text = texts.read(source, tokens, stream=stream)
    parts = windows.windows_of(text, context, batch_size, epoch_steps, disjoint=disjoint)
    return Examples(
        name=text.name,
        left_out={},
        notes=text.notes,
        image=False,
        problem=windows.next_token(text),
        parts=parts,
        fingerprint=text.fingerprint,
        joint_fingerprint=text.fingerprint,
        beside=(),
        tokens=text.tokens,
    )


def prepare(
    table: Table,
    seed: int,
    *,
    fractions: Fractions = FRACTIONS,
    balanced: bool = False,
    scale: Scale = "standard",
    loss: LossName = "auto",
    output_activation: OutputActivation = "auto",
) -> Examples:
    """Poses the table's problem, takes its fingerprint, and splits and scales it.

    Args:
      table: the examples; whoever calls this keeps no other hold of them.
      seed: which rows make up each part.
      fractions: how much of the table is drawn for a part; None where a part is a file of its own.
      balanced: whether losses weigh each class as if all had as many examples.
      scale, loss, output_activation: of the options.

    Raises:
      BadInput: when the data cannot be learnt with these options.
    """
    problem, table = pose(table, loss, output_activation)
    apart = [one for one, share in zip((table.validation, table.test), fractions, strict=True) if one and share is None]
    known_by = processes.by_first(lambda: [fingerprint(one) for one in (table, *apart)])
    parts, problem = split(table, problem, seed, scale, fractions, balanced=balanced)
    return Examples(
        name=table.name,
        left_out=table.left_out,
        notes=table.notes,
        image=table.image,
        problem=problem,
        parts=parts,
        fingerprint=known_by[0],
        joint_fingerprint=joint(known_by),
        beside=table.beside,
        form=table.form,
    )
