"""Texts cut into tokens, and the windows of them that an epoch has."""

from functools import partial

import jax
import numpy as np
import pytest
import tokenizers

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import texts
from jaxnet.experiment.data.tokens import BYTE_TOKENS, Decoder
from jaxnet.experiment.data.windows import windows_of

LINES = "ein Bär\r\nzwei Bären\n"


def text_of(content, write, kind="characters", name="a.txt", **options):
    write(name, content)
    return texts.read(name, kind, **options)


def test_characters_come_back_as_they_were_but_for_the_ends_of_lines_streamed_or_not(write):
    text = text_of("\ufeff".encode() + LINES.encode(), write)
    assert text.tokens.decode(text.ids) == "ein Bär\nzwei Bären\n"
    streamed = texts.read("a.txt", "characters", stream=True)
    assert streamed.on_disk
    assert streamed.ids.dtype == np.uint16
    np.testing.assert_array_equal(streamed.ids, text.ids)
    assert streamed.fingerprint == text.fingerprint
    # In UTF-16 it is the same text.
    assert text_of(LINES.encode("utf-16"), write).fingerprint == text.fingerprint


def test_bytes_are_the_files_own_and_are_mapped_from_it(write):
    held = text_of(b"\xff\xc3\xa4\r\n", write, "bytes")
    assert held.ids.tolist() == [0xFF, 0xC3, 0xA4, 13, 10]
    mapped = texts.read("a.txt", "bytes", stream=True)
    np.testing.assert_array_equal(mapped.ids, held.ids)
    decoder = Decoder(BYTE_TOKENS)
    # A letter of two bytes is there with the second, and what is cut short at the end has a sign of its own.
    assert [decoder(token) for token in (0xC3, 0xA4, 0xC3)] == ["", "ä", ""]
    assert decoder.rest() == "\ufffd"


def test_a_folder_is_one_text_in_the_order_of_names_and_python_has_one_of_its_own(write, tmp_path):
    write("all/b.txt", b"b")
    write("all/a.txt", b"a")
    assert texts.is_one("all")
    text = texts.read("all", "characters")
    assert text.tokens.decode(text.ids) == "a\nb"
    docs = texts.read(texts.PYTHON_DOCS, "characters")
    assert len(docs.ids) > 400_000
    assert docs.notes[0].startswith("python-docs as Python 3.")


def test_ids_in_a_file_are_taken_as_they_are(write, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4, dtype=np.uint8))
    for stream in (False, True):
        assert texts.read(str(tmp_path / "a.npy"), "bytes", stream=stream).ids.tolist() == [0, 1, 2, 3]
    np.save(tmp_path / "b.npy", np.array([1, 300], np.uint16))
    with pytest.raises(BadInput, match=r"expected ids below 256, got 300 at place 2$"):
        texts.read(str(tmp_path / "b.npy"), "bytes")


def test_processes_of_a_run_look_through_a_file_of_ids_by_turns(tmp_path, monkeypatch):
    ids = np.zeros(12, np.uint16)
    # In the second of three pieces.
    ids[5] = 300
    np.save(tmp_path / "c.npy", ids)
    monkeypatch.setattr(texts, "PIECE", 4)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    read = partial(texts.read, str(tmp_path / "c.npy"), "bytes", stream=True)
    np.testing.assert_array_equal(read().ids, ids)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(BadInput) as error:
        read()
    assert str(error.value) == f"--data {tmp_path / 'c.npy'}: expected ids below 256, got 300 at place 6"


def test_an_epoch_sees_each_token_once_from_a_place_that_is_drawn(write):
    text = text_of(bytes(range(65, 91)) * 20, write, "bytes")
    train, validation, test = windows_of(text, 8, 4, None)[:3]
    assert train.examples == train.epoch.of_pass == 57
    rows = [train.epoch.rows(jax.random.key(number)) for number in range(3)]
    assert len({int(row.min()) for row in rows}) > 1
    for row in rows:
        assert 0 <= row.min() < 8
        np.testing.assert_array_equal(np.sort(row), row.min() + 8 * np.arange(57))
        np.testing.assert_array_equal(train.x[row][:, 1:], train.y[row][:, :-1])
    # What is held out is the end, and nobody's twice.
    assert (len(train.x.ids), len(validation.x.ids), len(test.x.ids)) == (468, 26, 26)
    np.testing.assert_array_equal(test.y[:], text.ids[494:][1:25].reshape(3, 8))


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.txt", b"abc\xff", "characters", "--data a.txt: expected text in UTF-8, and byte 4 of a piece is none; "
         "save it as UTF-8, or take it byte by byte with --tokens bytes"),
        ("a.dat", b"abc", "characters", "--data a.dat: expected python-docs, a .txt file, a folder of them, or "
         "a .npy file of tokens; rename a text in another file to end with .txt"),
        ("a.txt", b"abc", "byte", "--tokens byte: expected characters, bytes or a tokenizer's .json file; did you mean "
         "bytes?"),
        ("a.txt", b"abc", "no.json", "--tokens no.json: no such file; expected a tokenizer's .json file"),
    ],
    ids=["UTF-8", "another file", "kind", "tokenizer"],
)  # fmt: skip
def test_what_is_no_text_is_said(name, content, kind, message, write):
    with pytest.raises(BadInput) as refused:
        text_of(content, write, kind, name)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("source", "told", "hint"),
    [("iris", "holds no text", ""), ("python-doc", "no such text", "; did you mean python-docs?")],
)
def test_a_name_of_no_text_is_said(source, told, hint):
    with pytest.raises(BadInput) as refused:
        texts.read(source, "characters")
    expected = "expected python-docs, a .txt file, a folder of them, or a .npy file of tokens"
    assert str(refused.value) == f"--data {source}: {told}; {expected}{hint}"


@pytest.mark.parametrize(
    ("context", "epoch_steps", "message"),
    [
        (64, None, "--data a.txt: has 520 bytes; a --context of 64 takes 1,300 at least"),
        (8, 15, "--epoch-steps 15: the training part has 57 windows, for at most 14 steps of --batch-size 4; give more "
         "--epochs"),
    ],
    ids=["context", "steps"],
)  # fmt: skip
def test_a_text_that_is_too_short_is_said(context, epoch_steps, message, write):
    text = text_of(bytes(range(65, 91)) * 20, write, "bytes")
    with pytest.raises(BadInput) as refused:
        windows_of(text, context, 4, epoch_steps)
    assert str(refused.value) == message


def test_a_tokenizer_cuts_and_joins(write, tmp_path):
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([LINES * 20], trainer)
    made.save(str(tmp_path / "t.json"))
    text = text_of(b"zwei B\xc3\xa4ren\n", write, str(tmp_path / "t.json"))
    assert len(text.ids) < len("zwei Bären\n")
    decoder = Decoder(text.tokens)
    assert "".join(map(decoder, map(int, text.ids))) + decoder.rest() == "zwei Bären\n"
