"""Which kinds of bad input the cases of a run were: lines of the makers that none reached are kinds that none had."""

import inspect
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any


class Met:
    """Notes which lines of some functions are reached.

    Attributes:
      missed: `file:line` of those that are not yet.
    """

    def __init__(self, *functions: Callable):
        self._codes = {code for function in functions for code in _codes_in(function.__code__)}
        # A function's first line is met where it is called: what is inside of it counts.
        self._left = {(code, line) for code in self._codes for *_, line in code.co_lines() if line is not None}
        self._left -= {(code, code.co_firstlineno) for code in self._codes}

    def noting(self, function: Callable, *arguments: Any) -> Any:
        """Calls a function and notes what it reaches."""
        sys.settrace(self._called)
        try:
            return function(*arguments)
        finally:
            sys.settrace(None)

    @property
    def missed(self) -> list[str]:
        return sorted({f"{code.co_filename.rpartition('/')[2]}:{line}" for code, line in self._left})

    def _called(self, frame, event, argument):
        return self._line if frame.f_code in self._codes else None

    def _line(self, frame, event, argument):
        self._left.discard((frame.f_code, frame.f_lineno))
        return self._line


def functions_of(module: Any) -> list[Callable]:
    """The functions that a module defines itself."""
    return [one for _, one in inspect.getmembers(module, inspect.isfunction) if one.__module__ == module.__name__]


def _codes_in(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_in(constant)
