"""What help tells of options: the docstring below each as one paragraph, broken where the terminal ends.

tyro keeps the lines of the source, and breaks them once more.
"""

import ast
import dataclasses
import inspect
import shutil
import sys
import textwrap
from functools import cache, partial
from itertools import pairwise
from typing import Any, get_type_hints


def registry() -> Any:
    """For `tyro.cli`: how the options of a dataclass are found, with what help tells of them."""
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

    rules = ConstructorRegistry()

    @rules.struct_rule
    def of_dataclass(info):
        if not (isinstance(info.type, type) and dataclasses.is_dataclass(info.type)):
            return None
        kinds = get_type_hints(info.type, include_extras=True)
        fields = (
            StructFieldSpec(of.name, kinds[of.name], _default(of, info.default), partial(of_option, info.type, of.name))
            for of in dataclasses.fields(info.type)
        )
        return StructConstructorSpec(info.type, tuple(fields))

    return rules


def description(config: type) -> str:
    """Of the program: the docstring of its options, as wide as the terminal."""
    # tyro breaks none of it, and takes a line that begins with a letter for the end of the one before.
    columns = shutil.get_terminal_size().columns
    return textwrap.fill(_in_one_line(config.__doc__ or ""), columns, subsequent_indent="  ")


def of_option(config: type, name: str) -> str | None:
    """What help tells of an option, in one line; None where nothing does."""
    return _paragraphs(config).get(name)


def _default(field, given):
    """As a given instance has it, or the class, or none: then the option has to be given."""
    import tyro

    if dataclasses.is_dataclass(given):
        return getattr(given, field.name)
    return tyro.MISSING_NONPROP if field.default is dataclasses.MISSING else field.default


@cache
def _paragraphs(config):
    """The docstrings of a dataclass's fields, also of those that it inherits, by name."""
    found = {}
    for part in reversed(config.__mro__[:-1]):
        (source,) = (
            node
            for node in ast.walk(ast.parse(inspect.getsource(sys.modules[part.__module__])))
            if isinstance(node, ast.ClassDef) and node.name == part.__name__
        )
        for above, below in pairwise(source.body):
            match above, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = _in_one_line(text)
    return found


def _in_one_line(text):
    return " ".join(text.split())
