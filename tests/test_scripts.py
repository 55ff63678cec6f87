"""The scripts as a person runs them: each in a process of its own."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import forked

ROOT = Path(__file__).parent.parent


def command(script, *arguments):
    return [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments]


CALLS = """
import json, runpy, tempfile, traceback
where, scripts, commands = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
os.chdir(where)
sys.path.insert(0, scripts)
from jaxnet.experiment.commands import compare, export, predict
# What a script warns of is heard.
warnings.filters.remove(("ignore", None, Warning, None, 0))

def child():
    for number, file in ((1, out), (2, err)):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.argv = [f"{scripts}/{script}.py", *arguments]
    status = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

ended = []
for script, *arguments in commands:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        _, status = os.waitpid(fork(child), 0)
        out.seek(0)
        err.seek(0)
        ended.append((os.waitstatus_to_exitcode(status), out.read(), err.read()))
print(json.dumps(ended), file=sys.stderr)
"""


def call(*commands, where):
    """Runs scripts one after another, each in a process of its own, which are given what all import."""
    done = forked(CALLS, where, ROOT / "scripts", json.dumps(commands))
    assert done.returncode == 0, done.stderr
    ended = [
        subprocess.CompletedProcess(given, *told)
        for given, told in zip(commands, json.loads(done.stderr.splitlines()[-1]), strict=True)
    ]
    assert not any("Traceback" in end.stderr + end.stdout for end in ended), ended
    return ended


def test_without_options_digits_are_learnt_to_97_percent(tmp_path):
    done, of_all, of_test, compared = call(
        ["train"],
        ["predict", "runs/digits-1", "--data", "digits", "--out", "p.csv"],
        ["predict", "runs/digits-1", "--data", "digits", "--part", "test"],
        ["compare", "runs/digits-1"],
        where=tmp_path,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    result = json.loads((tmp_path / "runs" / "digits-1" / "result.json").read_text())
    assert result["test_accuracy"] >= 0.97
    lines = done.stdout.splitlines()
    assert lines[0] == f"device     {result['device']}"
    assert (
        "data       digits: 1258 training, 180 validation, 359 test examples of 64 features, all on one scale" in lines
    )
    assert "problem    10 classes: softmax_cross_entropy_with_integer_labels" in lines
    assert "backward by hand" in done.stdout
    assert len([line for line in lines if line.startswith("epoch")]) == 21
    assert lines[-1] == "written    runs/digits-1/"

    assert of_all.returncode == 0
    assert of_all.stdout == ""
    device, predicted = of_all.stderr.splitlines()
    assert device == f"device     {result['device']}"
    score = r"accuracy 99\.\d\d%; the network was trained on 1258 of them, --part test leaves these out"
    assert re.fullmatch(rf"predicted  1797 examples: {score}", predicted)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 1798

    assert len(of_test.stdout.splitlines()) == 360
    score = f"accuracy {100 * result['test_accuracy']:.2f}%"
    assert of_test.stderr.splitlines()[1] == f"predicted  359 examples of the test part: {score}"

    assert (compared.returncode, compared.stderr) == (0, "")
    *_, row, written = compared.stdout.splitlines()
    assert row.split()[:2] == ["digits-1", "100/100"]
    assert f"{100 * result['test_accuracy']:.2f}% (100)" in row
    assert written == "written    compare.png"
    assert (tmp_path / "compare.png").exists()


BAD = {
    ("train", "--data", "a.csv"): "--data a.csv: no such file or folder",
    ("train", "--epochs", "0"): "--epochs: expected an integer of at least 1, got 0",
    ("predict", "nowhere", "--data", "digits"): "nowhere: no such folder; expected the folder of a finished run",
    ("generate", "nowhere"): "nowhere: no such folder; expected the folder of a finished run",
    ("export", "a" * 300): f"{'a' * 300}: the name is too long; expected a shorter one",
    ("compare", "nowhere", "there"): "nowhere: no such folder; expected the folder of a run",
}


def test_bad_input_is_one_line_on_stderr_and_status_2_and_an_option_misspelt_is_told_beside_the_one_meant(tmp_path):
    *bad, misspelt = call(*BAD, ("train", "--optimzer", "adam"), where=tmp_path)
    assert [(done.returncode, done.stdout) for done in (*bad, misspelt)] == [(2, "")] * (len(BAD) + 1)
    assert [done.stderr for done in bad] == [f"error: {line}\n" for line in BAD.values()]
    assert "Unrecognized options: --optimzer, adam" in misspelt.stderr
    assert "--optimizer {sgd," in misspelt.stderr
    assert "train.py --help" in misspelt.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_gradients_check_without_options(tmp_path):
    (done,) = call(["check_gradients"], where=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(r"^dZ1 +\(5, 4\) ", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("all within 1e-12 of jax.grad and of exact arithmetic, 1e-06 of differences\n")


def test_one_claim_of_the_lesson(tmp_path):
    (done,) = call(["lesson", "activations", "--seeds", "2", "--out", "lesson"], where=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\nactivations: HOLDS\n" in done.stdout
    assert re.fullmatch(r"written    lesson/report.md \(\d+ s\)", done.stdout.splitlines()[-1])
    assert (tmp_path / "lesson" / "activations.svg").exists()


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_ctrl_c_and_sigterm_are_one_line_and_a_status_and_the_run_goes_on(number, status, word, tmp_path):
    # A shell that runs the tests in its background has them, and their children, ignore Ctrl-C.
    heed = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    training = subprocess.Popen(
        [sys.executable, "-c", heed, *command("train", "--data", "iris", "--epochs", "1000000", "--out", "run")],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with training:
        try:
            while not training.stdout.readline().startswith("epoch"):
                assert training.poll() is None
            training.send_signal(number)
            _, stderr = training.communicate(timeout=60)
        finally:
            training.kill()
    assert training.returncode == status
    told = re.fullmatch(
        word + r": run holds config.json, metrics.jsonl \((\d+) epochs?\), checkpoints/step-\d+, but no model; "
        r"--resume run goes on\n",
        stderr,
    )
    epochs = int(told[1])
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == epochs >= 1
    more = ("--resume", "run", "--epochs", str(epochs + 2))
    (again,) = call(["train", *more], where=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert f": {epochs} epochs, " in again.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == epochs + 2


def test_a_terminal_shows_a_progress_bar(tmp_path):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    arguments = command("train", "--data", "iris", "--epochs", "40", "--out", "run")
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=theirs, stderr=theirs, env=environment) as training:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert training.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"epoch 40/40 ━+ 0:00:\d\d loss [\d.]+  validation loss [\d.]+  accuracy [\d.]+%", text)
    assert "written    run/" in text


@pytest.mark.parametrize(("shell", "status", "line"), [
    ("{train} --data iris --epochs 1 --out run >&-", 0, ""),
    ("{train} --data iris --epochs 1 --out run > /dev/full", 1, "error: standard output: No space left on device\n"),
    ("JAX_PLATFORMS=cup {train} --out run", 1, "error: JAX finds no device to run on ("),
    ("MPLBACKEND=nosuch {train} --data iris --epochs 1 --out run > /dev/null", 0, ""),
])  # fmt: skip
def test_odd_surroundings_are_told_in_a_line_at_most(shell, status, line, tmp_path):
    shell = shell.format(train=f"{sys.executable} {ROOT}/scripts/train.py")
    done = subprocess.run(shell, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == (1 if line else 0)


UNREAD = """
import json, runpy
folder, scripts, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
os.chdir(folder)
sys.path.insert(0, scripts)
from jaxnet.experiment.commands import compare, predict
from benchmarks import devices, program

os.waitpid(fork(lambda: module.main(["--data", "iris", "--epochs", "1", "--out", "run"])), 0)
ended = []
for script, *arguments in cases:
    ours, theirs = os.pipe()
    # Nobody is there to read from the first letter on.
    os.close(ours)
    heard = open("heard", "w+")

    def child():
        os.dup2(theirs, 1)
        os.dup2(heard.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(f"{scripts}/{script}.py", run_name="__main__")
        except SystemExit as exit_:
            # As Python does when it ends, where it would complain of what it cannot write.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_.code)

    _, status = os.waitpid(fork(child), 0)
    os.close(theirs)
    heard.seek(0)
    ended.append((os.waitstatus_to_exitcode(status), heard.read()))
print(json.dumps(ended), file=sys.stderr)
"""


def test_where_nobody_reads_on_every_script_ends_quietly_and_training_with_its_state_saved(tmp_path):
    quiet = [[path.stem, "--help"] for path in (ROOT / "scripts").glob("[!_]*.py")]
    assert len(quiet) == 10
    quiet += [["predict", "run", "--data", "iris"], ["compare", "run"], ["runs", "."], ["benchmark", "devices"]]
    train = ["train", "--data", "iris", "--hidden", "4", "--out", "long"]
    done = forked(UNREAD, tmp_path, ROOT / "scripts", json.dumps([*quiet, train]))
    *ended, stopped = json.loads(done.stderr.splitlines()[-1])
    assert ended == [[141, ""]] * len(quiet)
    assert stopped == [
        141,
        "stopped: standard output was closed; long holds config.json, metrics.jsonl (1 epoch), "
        "checkpoints/step-000000004, but no model; --resume long goes on\n",
    ]

    shell = f"{sys.executable} {ROOT}/scripts/predict.py run --data iris | head -1"
    done = subprocess.run(shell, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "class,P(setosa),P(versicolor),P(virginica)\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
