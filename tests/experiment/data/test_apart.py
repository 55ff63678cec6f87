"""Parts from files of their own, whole groups of rows, and what each row counts."""

import numpy as np
import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import grouped, matching, named
from jaxnet.experiment.data.delimited import Selection
from jaxnet.experiment.data.examples import prepare
from jaxnet.experiment.data.grouped import draw
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.split import Fractions, rows_of, split

ROWS = 60
HEADER = "a,colour,size,w,patient,kind"


def rows(count=ROWS, colours=("red", "green", "blue")):
    return [
        f"{k % 7}.5,{colours[k % len(colours)]},{'' if k % 9 == 4 else k % 5},{k % 3},p{k // 4},{'xy'[k % 5 == 0]}"
        for k in range(count)
    ]


@pytest.fixture
def table(write):
    """A function from a selection to the table of a file."""
    write("train.csv", "\n".join([HEADER, *rows()]))

    def read(**selection):
        return named.load("train.csv", ("kind",), Selection(**{"drop": ("w", "patient")} | selection))

    return read


def refused(function, *arguments, **options):
    with pytest.raises(BadInput) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def parts_of(read, seed=0, **options):
    problem, read = pose(read)
    return split(read, problem, seed, "none", **options)[0]


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_drawn_whole_with_each_class_in_its_share(seed):
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(100), rng.integers(1, 9, 100))
    labels = rng.integers(0, 3, 100)[groups]
    chosen = draw(len(groups) // 5, groups, labels, seed)
    assert not set(groups[chosen]) & set(groups[~chosen])
    # The last group that is taken may overshoot by half of the largest, 8, of each class.
    wanted = np.bincount(labels) / 5
    assert np.abs(np.bincount(labels[chosen]) - wanted).max() <= 5
    np.testing.assert_array_equal(draw(len(groups) // 5, groups, labels, seed), chosen)


def test_a_part_of_groups_has_one_at_least_and_never_all():
    groups, labels = np.repeat([0, 1], 50), np.zeros(100, int)
    assert draw(1, groups, labels, 0).sum() == draw(99, groups, labels, 0).sum() == 50


def test_no_two_parts_share_a_group_which_is_no_feature(table):
    read = table(drop=("w",), group="patient")
    assert read.features == ("a", "colour", "size")
    problem, posed = pose(read)
    rows = rows_of(posed, problem, 0, Fractions(0.2, 0.3))
    assert sorted(np.concatenate(rows)) == list(range(ROWS))
    groups = [set(posed.groups[of_part]) for of_part in rows]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 15
    assert all(groups)


def test_groups_that_leave_a_class_out_or_are_too_few_are_told(write):
    write("a.csv", "\n".join(["a,g,kind", *(f"{k},{'one' if k < 9 else k % 3},{'xy'[k < 9]}" for k in range(60))]))
    read = named.load("a.csv", ("kind",), Selection(group="g"))
    told = {refused(parts_of, read, seed) for seed in range(9)}
    assert told <= {
        f"--group: by whole groups no row of class {name!r} is left to learn from; expected each class in several "
        "groups, or try another --seed"
        for name in "xy"
    }
    write("a.csv", "\n".join(["a,g,kind", *(f"{k},same,{'xy'[k % 2]}" for k in range(60))]))
    read = named.load("a.csv", ("kind",), Selection(group="g"))
    assert refused(parts_of, read) == "--group: a.csv has too few groups for its parts; expected one for each at least"


def test_weights_are_1_in_the_mean_and_classes_that_are_balanced_weigh_alike(table):
    read = table(drop=("patient",), weights="w")
    assert read.notes == ("by --weights w, 20 of 60 examples count for nothing",)
    assert read.features == ("a", "colour", "size")
    plain, balanced = parts_of(read), parts_of(read, balanced=True)
    for part in plain[:3]:
        np.testing.assert_array_equal(part.loss_weights, part.weights)
        np.testing.assert_allclose(part.weights.mean(), 1)
    train = balanced.train
    np.testing.assert_array_equal(train.weights, plain.train.weights)
    np.testing.assert_allclose(np.bincount(train.y, train.loss_weights), len(train.y) / 2)
    # The other parts' classes weigh what the training part says.
    np.testing.assert_allclose(balanced.test.loss_weights, _mean_1(balanced.class_weights, balanced.test))
    assert parts_of(table()).train.weights is None


def _mean_1(class_weights, part):
    weights = class_weights[part.y] * part.weights
    return weights / weights.mean()


def test_weights_that_leave_nothing_are_told(write):
    write("a.csv", "\n".join(["a,w,kind", *(f"{k},{k % 2},{'xy'[k % 2]}" for k in range(60))]))
    read = named.load("a.csv", ("kind",), Selection(weights="w"))
    expected = "--class-weights balanced: no example of class 'x' counts in the training part"
    assert refused(parts_of, read, balanced=True) == expected
    nothing = read._replace(weights=np.zeros(60))
    expected = "--weights: no example of the training part counts; expected some weights above 0 in each part"
    assert refused(parts_of, nothing) == expected
    values = named.load("a.csv", ("w",))
    expected = "--class-weights balanced: expected one target of classes, got regression"
    assert refused(prepare, values, 0, balanced=True, loss="half_squared_error") == expected


def test_a_file_of_a_part_is_read_by_the_names_and_kinds_of_the_training_datas_columns(table, write):
    """In another order, with texts that training lacks, gaps, and columns that are no features."""
    write("t.csv", "kind,more,size,a,colour\nx,1,,2,pink\ny,1,3,,1\nx,1,4,5,red\n")
    read = table()
    assert refused(matching.beside, "--test", "t.csv", read, None, stream=False) == (
        "--test t.csv: expected the 3 columns of the training data, but it has also 'more'"
    )
    write("t.csv", "kind,patient,size,a,colour\nx,1,,2,pink\ny,1,3,,1\nx,1,4,5,red\n")
    test = matching.beside("--test", "t.csv", read, None, stream=False)
    parts = parts_of(read._replace(test=test), fractions=Fractions(test=None))
    assert len(parts.train.y) + len(parts.validation.y) == ROWS
    assert parts.test.y.tolist() == [0, 1, 0]
    named_features = dict(zip(parts.features, parts.test.x.values.T, strict=True))
    assert named_features["colour=red"].tolist() == [0, 0, 1]
    assert named_features["colour other"].tolist() == [1, 1, 0]
    assert named_features["size missing"].tolist() == [1, 0, 0]
    # The training part's median.
    assert named_features["a"][1] == np.median(parts.train.x.values[:, list(parts.features).index("a")])


def files_of_parts(write, read, **contents):
    """The table, and files of parts with these cells of their own column, as `--NAME NAME.csv`."""
    files = {"--data": read}
    for name, (column, cells) in contents.items():
        write(f"{name}.csv", "\n".join([f"a,colour,size,{column},kind", *(f"1,red,2,{cell},x" for cell in cells)]))
        files[f"--{name}"] = matching.beside(f"--{name}", f"{name}.csv", read, None, "patient", stream=False)
    return files


def test_a_group_that_two_files_share_is_refused(table, write):
    read = table(drop=("w",), group="patient")

    def told(**contents):
        of_parts = {name: ("patient", cells) for name, cells in contents.items()}
        return refused(grouped.apart, "patient", files_of_parts(write, read, **of_parts))

    how = "expected other groups in each file; leave their rows out of one of them"
    assert told(test=["q", "p3", "p1"]) == (
        f"--test test.csv: has rows of 'p3', 'p1' of --group patient, as --data has; {how}"
    )
    assert told(validation=["q", "r"], test=["s", "r"]) == (
        f"--test test.csv: has rows of 'r' of --group patient, as --validation has; {how}"
    )


def test_files_of_other_groups_pass_and_one_without_the_column_is_told(table, write):
    read = table(drop=("w",), group="patient")
    files = files_of_parts(write, read, validation=("patient", ["q", "q"]), test=("w", ["1"]))
    passed = grouped.apart("patient", files)
    assert passed["--data"].notes == (
        "--test has no column 'patient': nobody knows whether it shares groups with --data",
    )
    np.testing.assert_array_equal(passed["--data"].groups, read.groups)
    # As without the check: what a file is known again by stays.
    assert passed["--validation"].groups is None
    assert files["--validation"].group_names == ("q",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,colour,size,kind\n1,red,2,z\n",
            "--data t.csv: the test part has the class 'z', which the training part lacks",
        ),
        ("a,colour,size\n1,red,2\n", "--target: t.csv has no column 'kind'; its columns are a, colour, size"),
        (
            "a,colour,size,kind\nx,red,2,x\n",
            "--test t.csv, column 'a': expected finite numbers, got 'x' in row 1 (line 2); mend the cells",
        ),
        ("", "--test t.csv: is empty; expected a line of column names, then a line for each example"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_go_with_the_training_data_is_told(content, message, table, write):
    write("t.csv", content)

    def read():
        pose(table()._replace(test=matching.beside("--test", "t.csv", table(), None, stream=False)))

    assert refused(read) == message


def test_targets_of_another_kind_are_told(write):
    write("a.csv", "\n".join(["a,p,q", *(f"{k},{k / 7},{k % 2}" for k in range(40))]))
    write("t.csv", "a,p,q\n1,low,0\n2,high,1\n")
    read = named.load("a.csv", ("p",))
    test = matching.beside("--test", "t.csv", read, None, stream=False)
    expected = "--data t.csv: expected the test part to have numbers, got texts"
    assert refused(pose, read._replace(test=test)) == expected


def test_data_are_known_again_with_weights_groups_and_files_of_parts(table, write):
    write("t.csv", "a,colour,size,kind,w\n1,red,2,x,1\n1,red,3,y,2\n")

    def known(read):
        return prepare(read, 0, fractions=Fractions(test=None if read.test else 0.2)).joint_fingerprint

    read = table(drop=("w", "patient"))
    test = matching.beside("--test", "t.csv", read, None, stream=False)
    tables = [
        read,
        read._replace(test=test),
        read._replace(test=test.at(np.array([1]))),
        table(drop=("patient",), weights="w"),
        table(drop=("w",), group="patient"),
    ]
    assert len({known(one) for one in tables}) == len(tables)
    assert known(tables[0]) == prepare(table(), 0).fingerprint
