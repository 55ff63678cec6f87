"""Bad input by the thousand: scripts are run in children of one process, each on input of its own, and judged.

`python -m fuzzing KIND FIRST COUNT FOLDER`, from tests/, runs the cases from number FIRST on. A case is decided by its
kind and number alone, so that one that fails can be run again.
"""
