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


def test_on_a_terminal_whoever_asks_to_stop_is_told_that_the_steps_under_way_come_first():
    done = forked(
        """
from jaxnet.experiment.console.stopping import on_signals
reader, terminal = os.openpty()
os.set_blocking(reader, False)
def child():
    os.dup2(terminal, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
os.waitpid(fork(child), 0)
print(os.read(reader, 1000), file=sys.stderr)
"""
    )
    expected = rb"\r\nstopping after the steps under way; a second Ctrl-C ends at once\r\n"
    assert done.stderr.splitlines()[-1] == f"b'{expected.decode()}'"


def test_a_ctrl_c_that_is_lost_in_a_callback_is_said_nothing_of_and_heeded_before_anything_is_written():
    done = forked(
        """
from jaxnet.experiment.console.errors import exit_status, heed_interrupt
class Callback:
    def __init__(self, error):
        self.error = error
    def __del__(self):
        raise self.error
def program():
    Callback(ZeroDivisionError("told"))
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt as error:
        lost = error
    Callback(lost)
    heed_interrupt()
def child():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os._exit(exit_status(program))
_, status = os.waitpid(fork(child), 0)
print(os.waitstatus_to_exitcode(status), file=sys.stderr)
"""
    )
    assert done.stderr.splitlines()[-3:] == ["ZeroDivisionError: told", "interrupted: nothing was written", "130"]
