"""A way to a gradient in a process of its own, that answers in lines of JSON.

`python -m benchmarks.clipping.worker START PROBLEM` starts it; START is MODULE:FUNCTION, PROBLEM a `Problem` in JSON.
"""

import importlib
import json
import sys
import time
from typing import Any

from benchmarks.clipping.networks import of_json
from benchmarks.contest.worker import own_stdout


class Answers:
    """What is asked, and what is told.

    `prepare` makes ready what then runs once; `go N` tells the seconds of N steps, `gradient` what one gives, `bytes N`
    the memory of N examples, by default the problem's, and `operations` how many the compiler counts, or None.
    """

    def __init__(self, start: str, problem: str) -> None:
        module, function = start.split(":")
        self._problem = of_json(**json.loads(problem))
        self._step = getattr(importlib.import_module(module), function)(self._problem)

    def answer(self, line: str) -> dict[str, Any]:
        """To a line."""
        asked, *number = line.split()
        answer: dict[str, Any] = getattr(self, f"_{asked}")(*map(int, number))
        return answer

    def _prepare(self):
        self._step.prepare()
        self._step.run()
        return {}

    def _go(self, steps):
        started, used = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self._step.run()
        return {"seconds": time.perf_counter() - started, "processor": time.process_time() - used}

    def _gradient(self):
        return {"gradient": [leaf.tolist() for leaf in self._step.gradient()]}

    def _bytes(self, examples=None):
        return {"bytes": int(self._step.bytes(examples or self._problem.examples))}

    def _operations(self):
        return {"operations": self._step.operations() if hasattr(self._step, "operations") else None}


def main(start: str, problem: str) -> None:
    """Answers until the input ends."""
    tell = own_stdout()
    answers = Answers(start, problem)
    for line in sys.stdin:
        tell(answers.answer(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
