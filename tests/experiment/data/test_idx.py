"""Reading MNIST's files, in the IDX format; every mistake is named with its place."""

import gzip
import struct

import numpy as np
import pytest
from on_disk import idx, refusal

from jaxnet.experiment.data import named

IMAGES = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
LABELS = np.array([0, 1, 0, 1, 0, 1], np.uint8)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_a_folder_of_idx_files_is_read(packed, write):
    pack, end = (gzip.compress, ".gz") if packed else (bytes, "")
    write(f"mnist/train-images-idx3-ubyte{end}", pack(idx(IMAGES)))
    write(f"mnist/train-labels-idx1-ubyte{end}", pack(idx(LABELS)))
    table = named.load("mnist")
    np.testing.assert_array_equal(table.x.values, IMAGES)
    np.testing.assert_array_equal(table.y[:, 0], LABELS)
    assert table.labels
    assert table.test is None
    write(f"mnist/t10k-images-idx3-ubyte{end}", pack(idx(IMAGES[:2])))
    write(f"mnist/t10k-labels-idx1-ubyte{end}", pack(idx(LABELS[:2])))
    np.testing.assert_array_equal(named.load("mnist").test.x.values, IMAGES[:2])


def test_where_torchvision_leaves_its_files_they_are_read(write):
    """Plain and gzipped beside each other, of which the plain ones are read, below the folder that it was given."""
    for end, images in (("", IMAGES), (".gz", IMAGES[:4])):
        pack = gzip.compress if end else bytes
        write(f"data/MNIST/raw/train-images-idx3-ubyte{end}", pack(idx(images)))
        write(f"data/MNIST/raw/train-labels-idx1-ubyte{end}", pack(idx(LABELS[: len(images)])))
        write(f"data/MNIST/raw/t10k-images-idx3-ubyte{end}", pack(idx(images[:2])))
        write(f"data/MNIST/raw/t10k-labels-idx1-ubyte{end}", pack(idx(LABELS[:2])))
    for folder in ("data", "data/MNIST", "data/MNIST/raw"):
        table = named.load(folder, stream=True)
        np.testing.assert_array_equal(table.x.read(slice(None), np.float64), IMAGES)
        assert len(table.test.x) == 2
    write("data/FashionMNIST/raw/train-images", idx(IMAGES))
    expected = "holds several data sets, FashionMNIST/raw, MNIST/raw; give the folder of one"
    assert refusal("data") == f"--data data: {expected}"


def test_idx_values_of_other_types_are_big_endian(write):
    write("mnist/train-images", idx(np.array([[1.5, -2.0]], np.float32)))
    write("mnist/train-labels", idx(np.array([70000], np.int32)))
    table = named.load("mnist")
    np.testing.assert_array_equal(table.x.values, [[1.5, -2.0]])
    assert table.y[0, 0] == 70000


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            idx(IMAGES)[:-1],
            idx(LABELS),
            "mnist/train-images: is cut short; expected 24 bytes of values for the shape (6, 2, 2)",
        ),
        (
            idx(IMAGES)[:10],
            idx(LABELS),
            "mnist/train-images: is cut short; its first bytes promise 6 bytes of values",
        ),
        (
            struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**31, 2**31),
            idx(LABELS),
            f"mnist/train-images: is cut short; its first bytes promise {2**93} bytes of values",
        ),
        (
            idx(IMAGES) + b"!",
            idx(LABELS),
            "mnist/train-images: goes on after its values; expected 24 bytes of values for the shape (6, 2, 2)",
        ),
        (b"", idx(LABELS), "mnist/train-images: expected an IDX file, got other first bytes"),
        (
            b"\0\0\x08\xff" + 255 * b"\0\0\0\1" + b"!",
            idx(LABELS),
            "mnist/train-images: expected an IDX file, got other first bytes",
        ),
        (b"\x89PNG....", idx(LABELS), "mnist/train-images: expected an IDX file, got other first bytes"),
        (idx(IMAGES), idx(LABELS[:5]), "mnist/train-labels: expected 6 labels, one for each image, got (5,)"),
        (idx(LABELS), idx(LABELS), "mnist/train-images: expected images, (examples, rows, columns), got (6,)"),
    ],
    ids=[
        "a byte short",
        "in the header",
        "terabytes",
        "a byte long",
        "empty",
        "255 axes",
        "a PNG",
        "a label short",
        "no images",
    ],
)
def test_a_broken_idx_file_is_named(images, labels, message, write):
    write("mnist/train-images", images)
    write("mnist/train-labels", labels)
    assert refusal("mnist") == f"--data {message}"


def test_a_gzipped_idx_file_cut_short_is_named(write):
    write("mnist/train-images.gz", gzip.compress(idx(IMAGES))[:-12])
    write("mnist/train-labels.gz", gzip.compress(idx(LABELS)))
    assert refusal("mnist").startswith("--data mnist/train-images.gz: cannot be read (Compressed file ended before")


def test_a_folder_without_idx_files_is_named(write):
    write("mnist/readme", "")
    expected = "expected x.npy and y.npy, MNIST's IDX files, or images in a folder for each class"
    assert refusal("mnist") == f"--data mnist: has no file train-images*, plain or .gz; {expected}"
    write("mnist/train-images", idx(IMAGES))
    write("mnist/train-labels", idx(LABELS))
    write("mnist/t10k-images", idx(IMAGES))
    assert refusal("mnist") == f"--data mnist: has no file t10k-labels*, plain or .gz; {expected}"


def test_test_images_of_another_size_are_named(write):
    for part, images in (("train", IMAGES), ("t10k", IMAGES[:, :1])):
        write(f"mnist/{part}-images", idx(images))
        write(f"mnist/{part}-labels", idx(LABELS))
    assert refusal("mnist") == "--data mnist: expected test images of as many pixels as the training images', 4, got 2"
