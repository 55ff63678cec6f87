"""Starts a way to a gradient."""

from benchmarks.clipping.methods import Method
from benchmarks.clipping.networks import Problem
from benchmarks.contest.process import Worker, uninterrupted


def started(method: Method, problem: Problem) -> Worker:
    """Its process, for use in a `with` statement."""
    with uninterrupted():
        return Worker(method.start, problem, "benchmarks.clipping.worker")
