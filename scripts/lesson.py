"""Puts the lesson's claims to the test: `python scripts/lesson.py`, or one, `python scripts/lesson.py saturation`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from claims.program import main

    return main


if __name__ == "__main__":
    start(load)
