"""Folders of PNG and JPEG images by class; every mistake is named with its file."""

import io
import struct
import zlib

import numpy as np
import pytest
from on_disk import refusal
from PIL import Image

from jaxnet.experiment.data import named
from jaxnet.experiment.data.image_form import ImageForm, asked

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOURED = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)


def picture(pixels, kind="PNG", mode=None, **options):
    """The bytes of a file."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def promising(width, height):
    """A PNG file whose first bytes promise so many pixels."""
    content, header = picture(GREY), b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def test_each_folder_is_a_class_and_what_is_no_image_is_told(write):
    write("pets/dog/10.png", picture(GREY))
    write("pets/dog/deeper/2.PNG", picture(255 - GREY))
    write("pets/cat/1.jpeg", picture(np.full((3, 4), 80, np.uint8), "JPEG"))
    for name in ("cat/.hidden.png", "cat/notes.txt", ".git/x.png", "alone.png"):
        write(f"pets/{name}", "")
    write("pets/empty/readme", "")
    table = named.load("pets")
    np.testing.assert_array_equal(table.x.values, [np.full((3, 4), 80), GREY, 255 - GREY])
    assert table.y.tolist() == ["cat", "dog", "dog"]
    assert table.files.tolist() == ["cat/1.jpeg", "dog/10.png", "dog/deeper/2.PNG"]
    assert table.at(np.array([2])).files.tolist() == ["dog/deeper/2.PNG"]
    assert (table.image, len(table.features), table.form) == (True, 12, ImageForm((3, 4), 1))
    assert table.notes == (
        "6 files and folders are no image in a folder of a class, and left out: cat/.hidden.png, cat/notes.txt, "
        "empty/readme, .git and 2 more",
    )


def test_one_image_in_colours_makes_all_have_three_channels(write):
    wide = np.stack([GREY, 0 * GREY, GREY, GREY], axis=-1)
    for name, content in {
        "a/colour.png": picture(COLOURED),
        "a/grey.png": picture(GREY),
        "b/black-and-white.png": picture(GREY, mode="1"),
        "b/palette.png": picture(COLOURED, mode="P"),
        "b/sixteen-bits.png": picture(GREY.astype(np.uint16) * 257),
        "b/transparent.png": picture(wide),
    }.items():
        write(f"many/{name}", content)
    table = named.load("many")
    assert table.x.shape == (6, 3, 4, 3)
    assert table.form == ImageForm((3, 4), 3)
    expected = {0: COLOURED, 1: GREY[..., None], 4: GREY[..., None], 5: wide[..., :3]}
    for row, pixels in expected.items():
        np.testing.assert_array_equal(table.x.values[row], np.broadcast_to(pixels, (3, 4, 3)))
    assert table.notes == ("how transparent pixels are is left out",)
    # What a run's images were, a grey image among others is too, and the other way round.
    write("new/1.png", picture(COLOURED))
    assert named.load("new", with_target=False, form=ImageForm((3, 4), 1)).x.shape == (1, 3, 4)
    write("new/1.png", picture(GREY))
    assert named.load("new", with_target=False, form=ImageForm((3, 4), 3)).x.shape == (1, 3, 4, 3)


def test_a_photograph_is_upright(write):
    turned = Image.Exif()
    turned[0x0112] = 6
    for label in ("a", "b"):
        write(f"photos/{label}/1.jpg", picture(np.tile(np.uint8([[0], [255]]), (1, 4)), "JPEG", exif=turned))
    table = named.load("photos")
    np.testing.assert_array_equal(table.x.values[0], np.tile([255, 0], (4, 1)))


def test_folders_of_parts_are_parts(write):
    for name in ("train/a/1", "train/b/2", "val/a/3", "test/b/4", "test/b/5"):
        write(f"split/{name}.png", picture(GREY))
    write("split/README", "")
    table = named.load("split")
    assert (table.y.tolist(), table.validation.y.tolist(), table.test.y.tolist()) == (["a", "b"], ["a"], ["b", "b"])
    assert table.test.files.tolist() == ["b/4.png", "b/5.png"]
    assert table.notes == ("1 file is no image in a folder of a class, and left out: README",)
    # A class may be called as a part is.
    write("split/plane/1.png", picture(GREY))
    assert sorted(set(named.load("split").y)) == ["plane", "test", "train", "val"]


def test_a_test_part_without_classes_is_left_out_of_training(write):
    for name in ("train/a/1", "train/b/2", "test/4"):
        write(f"split/{name}.png", picture(GREY))
    table = named.load("split")
    assert table.test is None
    assert table.notes == ("split/test has no folders of classes, and is left out; jaxnet predict takes it",)
    assert named.load("split", with_target=False).test.files.tolist() == ["4.png"]


def test_other_sizes_are_refused_with_the_remedy_or_resized(write):
    write("sizes/a/1.png", picture(GREY))
    write("sizes/b/2.png", picture(np.full((6, 2), 90, np.uint8)))
    assert refusal("sizes") == (
        "--data sizes/b/2.png: is 6 x 2 pixels, and sizes/a/1.png is 3 x 4 pixels; --image-size 3 4 resizes all to that"
    )
    table = named.load("sizes", form=asked((6, 4)))
    assert table.x.shape == (2, 6, 4)
    np.testing.assert_array_equal(table.x.values[1], np.full((6, 4), 90))
    assert (table.form, table.notes) == (ImageForm((6, 4), 1, True), ("images are resized to 6 x 4 pixels",))
    assert refusal("sizes", form=ImageForm((3, 4), 1)) == (
        "--data sizes/b/2.png: is 6 x 2 pixels, and the run's images are 3 x 4 pixels"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no image", "is damaged or cut short; expected a whole PNG or JPEG image"),
        (picture(GREY)[:-30], "is damaged or cut short; expected a whole PNG or JPEG image"),
        (picture(COLOURED, "JPEG")[:-50], "is damaged or cut short; expected a whole PNG or JPEG image"),
        (picture(GREY, "GIF"), "is damaged or cut short; expected a whole PNG or JPEG image"),
        ("", "is damaged or cut short; expected a whole PNG or JPEG image"),
        (
            promising(65_535, 65_535),
            "has more pixels than 89,478,485; expected a picture",
        ),
    ],
    ids=["text", "cut PNG", "cut JPEG", "GIF", "empty", "4 G pixels"],
)
def test_a_broken_image_is_named(content, told, write):
    write("pets/cat/1.png", picture(GREY))
    write("pets/dog/2.png", content)
    assert refusal("pets") == f"--data pets/dog/2.png: {told}"


def test_what_cannot_be_is_one_line(write, monkeypatch):
    write("flat/1.png", picture(GREY))
    assert refusal("flat") == "--data flat: holds images and no folders of classes; expected flat/CLASS/IMAGE"
    assert refusal("flat", stream=True) == (
        "--stream: flat holds images, which are read into memory; save them as x.npy and y.npy"
    )
    write("split/train/a/1.png", picture(GREY))
    write("split/test/notes", "")
    assert refusal("split") == "--data split/test: holds no image; expected files that end with .png, .jpg, .jpeg"
    for source in ("digits", write("table.csv", "a,b\n"), "nothing"):
        write("nothing/readme", "")
        told = refusal(source, form=asked((8, 8)))
        assert told == f"--image-size: is for folders of images; {source} is none"
