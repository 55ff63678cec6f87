"""What is said of a file that a command is to write."""

import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.storage.destination import require_destination


def refusal(file, *, overwrite=False):
    with pytest.raises(BadInput) as error:
        require_destination("--out", file, overwrite=overwrite)
    return str(error.value)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_no_file_to_write_over_and_one_that_is_not_there_is_to_be_made(tmp_path, overwrite):
    assert refusal(tmp_path, overwrite=overwrite) == f"--out {tmp_path}: is a folder; expected the name of a file"
    far, file = tmp_path / "no" / "p.csv", tmp_path / "file"
    assert (
        refusal(far, overwrite=overwrite) == f"--out {far}: there is no folder {far.parent}; make it, or choose another"
    )
    file.write_text("")
    assert refusal(file / "p.csv", overwrite=overwrite) == (
        f"--out {file}/p.csv: there is no folder {file}; make it, or choose another"
    )


def test_a_file_is_replaced_where_that_is_asked_for_alone(tmp_path):
    file = tmp_path / "p.csv"
    require_destination("--out", file, overwrite=False)
    file.write_text("")
    require_destination("--out", file, overwrite=True)
    expected = f"--out {file}: exists already; choose another name, or replace it with --overwrite"
    assert refusal(file) == expected
