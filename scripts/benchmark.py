"""Measures what README and docs claim: `python scripts/benchmark.py training`; `--help` lists the others."""

from _start import start


def load():
    """The program, once its packages are there."""
    from benchmarks.program import BenchmarkConfig, benchmark

    from jaxnet.experiment.options.parse import parse

    return lambda: benchmark(parse(BenchmarkConfig))


if __name__ == "__main__":
    start(load)
