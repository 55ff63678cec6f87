"""Memory that one step has freed stays with the process for the next."""

import ctypes

# Bytes from which on glibc gives back at once what is freed.
GIVEN_BACK = 2**25
# `mallopt`'s names for them, in <malloc.h>, and what is asked: bytes, and one arena for all threads, since those of
# further threads hold 64 MB at most.
OPTIONS = {-3: 2**30, -1: 2**31 - 1, -8: 1}


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed, for arrays of up to 1 GiB; asked before JAX starts its threads.

    A compiled program takes room for all between its arguments and its outcome in one piece, anew in each run. From 32
    MB on glibc asks the system for that, and gives it back: every page of it is a fault in every step, a fifth of the
    step on a CPU (docs/benchmarks.md). The process keeps the most that it ever held. To compile a program takes 1.4
    times as long, since its threads wait for one another.

    Returns:
      Whether the library took the request: glibc does, and others have no such options.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [mallopt(option, value) for option, value in OPTIONS.items()]
    return all(taken)
