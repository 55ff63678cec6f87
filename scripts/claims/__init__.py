"""The lesson's claims as experiments, and its pictures: what `scripts/lesson.py` runs. Each claim is a module."""
