"""The command line, read by tyro into a frozen dataclass; a refusal is one line."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jaxnet.experiment.console.errors import BadInput, did_you_mean

Config = TypeVar("Config")
NUMBERS = {int: "an integer", float: "a number"}


def parse(config: type[Config], arguments: Sequence[str] | None = None, default: Config | None = None) -> Config:
    """Reads `--name value` options into a dataclass.

    Args:
      config: a frozen dataclass; its docstrings are the help.
      arguments: the command line without the program's name; that of this process by default.
      default: what is not given is as there; by default as the dataclass has it.

    Raises:
      BadInput: naming the option, what was expected and the nearest name.
      SystemExit: after `--help`.
    """
    import tyro

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            return tyro.cli(config, args=arguments, default=tyro.MISSING_NONPROP if default is None else default)
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
    _diagnose(config, arguments)
    raise BadInput(_first_sentence(refusal.getvalue()))


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


def _diagnose(config, arguments):
    """Finds what is wrong from the types alone, and says it better than a parser can."""
    types = get_type_hints(config)
    fields = {"--" + field.name.replace("_", "-"): field for field in dataclasses.fields(config)}
    known = [*fields, *(f"--no-{name[2:]}" for name, field in fields.items() if types[field.name] is bool), "--help"]
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if f"-{name}" in fields:
            raise BadInput(f"{name}: no such option; did you mean -{name}?")
        if not name.startswith("--"):
            continue
        if name not in known:
            raise BadInput(f"{name}: no such option{did_you_mean(name, known) or '; --help lists them'}")
        if name in fields:
            _check_value(name, types[fields[name].name], [value] if equals else arguments[position + 1 :])
    for name, field in fields.items():
        if field.default is dataclasses.MISSING:
            _check_given(name, field, arguments)
        if field.metadata.get("positional") and arguments and not arguments[0].startswith("-"):
            _check_choice(field.name.upper(), types[field.name], arguments[0])


def _check_given(name, field, arguments):
    if field.metadata.get("positional"):
        if not arguments or arguments[0].startswith("-"):
            raise BadInput(f"{field.name.upper()} is missing; expected it before the options; --help says what it is")
    elif not any(argument.split("=")[0] == name for argument in arguments):
        raise BadInput(f"{name} is missing; --help says what it is")


def _check_value(name, kind, following):
    members = [member for member in get_args(kind) if member is not type(None)] if get_origin(kind) else [kind]
    several = get_origin(kind) is tuple
    if kind is not bool and not several and (not following or following[0].startswith("--")):
        raise BadInput(f"{name}: expected a value after it")
    if get_origin(kind) is Literal:
        _check_choice(name, kind, following[0])
        return
    numbers = [member for member in members if member in NUMBERS]
    for value in following[: len(following) if several else 1] if numbers else ():
        if value.startswith("--"):
            return
        try:
            numbers[0](value)
        except ValueError:
            raise BadInput(f"{name}: expected {NUMBERS[numbers[0]]}, got {value!r}") from None


def _check_choice(name, kind, value):
    if get_origin(kind) is Literal and value not in get_args(kind):
        near = did_you_mean(value, get_args(kind))
        raise BadInput(f"{name}: expected one of {', '.join(get_args(kind))}; got {value!r}{near}")


def _first_sentence(box: str) -> str:
    """The message in a parser's frame of lines, without the frame and what follows the message."""
    lines: list[str] = []
    for line in box.splitlines():
        text = re.sub(r"^[│|]?\s*|\s*[│|]?$", "", line)
        if re.fullmatch(r"[─-]{5,}", text) and lines:
            break
        if text and not re.match(r"[╭╰─]", text):
            lines.append(text)
    return " ".join(lines) or "the command line was not understood; --help lists the options"
