"""Signals that ask a run to stop."""

from forked import forked


def test_a_second_signal_ends_the_process_at_once():
    done = forked(
        """
from jaxnet.experiment.console.stopping import on_signals
def child():
    # A shell's background job ignores it, and so would this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
_, status = os.waitpid(fork(child), 0)
print(os.waitstatus_to_exitcode(status), file=sys.stderr)
"""
    )
    assert done.stderr.splitlines()[-2:] == ["stopped at once", "130"]
