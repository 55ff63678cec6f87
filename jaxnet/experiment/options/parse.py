"""The command line, read by tyro into a frozen dataclass; and the types of a dataclass asked for in a file."""

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options import paragraphs

Config = TypeVar("Config")


def parse(config: type[Config], arguments: Sequence[str] | None = None, default: Config | None = None) -> Config:
    """Reads `--name value` options into a dataclass. Options that it does not understand, tyro tells on stderr.

    Args:
      config: a frozen dataclass; its docstrings are the help. Its `WORD`, if it has one, is the option that a word
        without one was probably meant for.
      arguments: the command line without the program's name; that of this process by default.
      default: what is not given is as there; by default as the dataclass has it.

    Raises:
      BadInput: when the dataclass refuses a value, or there is a word without an option.
      SystemExit: with 0 after `--help`; with 2 where tyro does not understand the line.
    """
    import tyro

    cli = partial(
        tyro.cli,
        config,
        args=arguments,
        default=tyro.MISSING_NONPROP if default is None else default,
        description=paragraphs.description(config),
        registry=paragraphs.registry(),
    )
    read, rest = cli(return_unknown_args=True)
    if rest and not rest[0].startswith("-"):
        word, meant = rest[0], getattr(config, "WORD", None)
        likely = "" if meant is None else f"; did you mean {meant} {shlex.quote(word)}?"
        raise BadInput(f"{word!r}: is no option's{likely}; --help lists the options")
    # A second time where there is more, for what it says of an option that it does not know.
    return cli() if rest else read


def require_types(config: type, values: Mapping[str, Any]) -> None:
    """Refuses values of other types than a dataclass has them, as a file may hold.

    Raises:
      TypeError: naming the first one.
    """
    types = get_type_hints(config)
    for name, value in values.items():
        if name in types and not _fits(value, types[name]):
            raise TypeError(f"{name} is {value!r}; expected {types[name]}")


def _fits(value, kind):
    members = get_args(kind)
    if get_origin(kind) is Literal:
        return any(value is member or (isinstance(value, str) and value == member) for member in members)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, members[0]) for item in value)
    if members:
        return any(_fits(value, member) for member in members)
    # In Python a truth value counts as a number.
    return type(value) in {float: (float, int)}.get(kind, (kind,))
