"""Damaged, unfit and hostile checkpoints of every format: one line that says what, and nothing is run."""

import io
import os
import pickle
import shutil
import zipfile

import msgpack
import numpy as np
import pytest

from mt3.models.checkpoints import CheckpointError
from mt3.models.loading import ModelHints, load_model

FORMATS = ("t5x", "safetensors", "npz", "pytorch")
HINTS = ModelHints(num_heads=2)
# The same parameter under both names.
NAMES = ("decoder/decoder_norm/scale", "decoder.final_layer_norm.weight")


class Hostile:
    """Unpickling it makes a directory."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return os.mkdir, (self._path,)


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_model(path, HINTS)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def change_one(change):
    """Applies a function to one parameter, whichever names there are."""

    def apply(arrays):
        return {name: change(array) if name in NAMES else array for name, array in arrays.items()}

    return apply


def put_nan(array):
    array = array.copy()
    array[3] = np.nan
    return array


@pytest.mark.parametrize("name", FORMATS)
def test_good_files_are_read(make_file, arrays, spec, name):
    """What the others spoil."""
    loaded, params = load_model(make_file(name), HINTS)
    assert loaded == spec
    np.testing.assert_array_equal(params["decoder"]["decoder_norm"]["scale"], arrays[NAMES[0]])


@pytest.mark.parametrize("name", FORMATS)
def test_nan(make_file, name):
    message = refusal(make_file(name, change_one(put_nan)))
    assert "holds NaN or infinite numbers: decoder/decoder_norm/scale has 1" in message


@pytest.mark.parametrize("name", FORMATS)
def test_wrong_shape(make_file, name):
    message = refusal(make_file(name, change_one(lambda array: array[:-1])))
    assert "decoder/decoder_norm/scale is float32[7] in the checkpoint and float32[8] here" in message


@pytest.mark.parametrize("name", FORMATS)
def test_extra_array(make_file, name):
    message = refusal(make_file(name, lambda arrays: {**arrays, "backdoor": np.zeros(2, np.float32)}))
    assert "backdoor is only in the checkpoint" in message


@pytest.mark.parametrize("name", FORMATS)
def test_missing_array(make_file, name):
    def leave_out(arrays):
        return {key: array for key, array in arrays.items() if key not in NAMES}

    assert "decoder/decoder_norm/scale is not in the checkpoint" in refusal(make_file(name, leave_out))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", ["safetensors", "npz", "pytorch"])
def test_truncated_file(make_file, name, share):
    path = make_file(name)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "cut short" in refusal(path) or "is no" in refusal(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("file", ["checkpoint", "target.decoder.decoder_norm.scale/0"])
def test_truncated_t5x_file(make_file, file, share):
    folder = make_file("t5x")
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: int(share * len(data))])
    assert "cut short" in refusal(folder)


@pytest.mark.parametrize("file", ["0", ".zarray", ""])
def test_t5x_array_that_is_missing(make_file, file):
    folder = make_file("t5x")
    path = folder / "target.decoder.decoder_norm.scale" / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "decoder/decoder_norm/scale is missing, damaged or cut short" in refusal(folder)


def test_t5x_array_of_another_shape_than_the_index_says(make_file):
    folder = make_file("t5x")
    there = folder / "target.encoder.encoder_norm.scale"
    shutil.rmtree(there)
    shutil.copytree(folder / "target.decoder.layers_0.mlp.wo.kernel", there)
    message = refusal(folder)
    assert "encoder/encoder_norm/scale is float32[12, 8] on disk and float32[8] in the index" in message


def test_hostile_pickles(make_file, tmp_path, write_pth):
    """A pickle in each place where there could be one; none of them is run."""
    made = tmp_path / "made by a pickle"
    program = pickle.dumps({"encoder": Hostile(made)}, protocol=2)
    paths = {name: make_file(name) for name in FORMATS}

    write_pth(paths["pytorch"], {}, program=program)
    assert f"it asks for {os.mkdir.__module__}.mkdir" in refusal(paths["pytorch"])

    bare = tmp_path / "bare.pth"
    bare.write_bytes(program)
    assert "no file of torch.save since PyTorch 1.6" in refusal(bare)

    for name in ("safetensors", "npz"):
        paths[name].write_bytes(program)
        assert "is no" in refusal(paths[name])
    (paths["t5x"] / "checkpoint").write_bytes(program)
    assert "is no T5X checkpoint" in refusal(paths["t5x"])

    objects = tmp_path / "objects.npz"
    np.savez(objects, **{NAMES[0]: np.array([Hostile(made)], object)})
    refusal(objects)
    assert not made.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00true" + b"tR.",
        b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
        b"ctorch\nload\n(X\x01\x00\x00\x00atR.",
        b"ccollections\nOrderedDict\n(X\x01\x00\x00\x00atR.",  # a call with something to call it with
        b"ctorch\nFloatStorage\n)R.",
        b"ctorch\nFloatStorage\n)\x81.",  # NEWOBJ
        b"\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"(X\x04\x00\x00\x00trueios\nsystem\n.",  # INST
        b"\x82\x01.",  # EXT1
        b"]q\x00(h\x00e}b.",  # a list within itself, given a state
        b"}X\x01\x00\x00\x00aK\x01s.",  # {"a": 1}
        b"}(K\x01.",
        b"}.extra",
        b"tttt.",
        b"",
    ],
)
def test_programs_that_are_no_state_dictionary(tmp_path, write_pth, program):
    path = tmp_path / "mt3.pth"
    write_pth(path, {}, program=b"\x80\x02" + program)
    message = refusal(path)
    assert "refused, nothing in it was run" in message or "is of no known network" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(J\x08\x00\x00\x00t", b"(J\xff\xff\xff\x7ft"),  # of 2**31 - 1 numbers
        (b"(J\x08\x00\x00\x00t(J\x01\x00\x00\x00t", b"(J\x08\x00\x00\x00t(J\x09\x00\x00\x00t"),  # with gaps
        (b"(J\x08\x00\x00\x00t(J\x01\x00\x00\x00t", b"(J\x08\x00\x00\x00t(J\xff\xff\xff\xfft"),  # backwards
        (b"(J\x08\x00\x00\x00t(J\x01\x00\x00\x00t", b"(J\x08\x00\x00\x00t(t"),
    ],
)
def test_tensors_that_reach_beyond_their_storage(tmp_path, write_pth, old, new):
    path = tmp_path / "mt3.pth"
    values = {NAMES[1]: np.zeros(8, np.float32)}
    write_pth(path, values)
    with zipfile.ZipFile(path) as archive:
        program = archive.read("archive/data.pkl")
    assert old in program
    write_pth(path, values, program=program.replace(old, new))
    assert "it has a tensor" in refusal(path)


def test_storage_of_another_size(tmp_path, write_pth, make_file):
    path = make_file("pytorch")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data[:-4] if name == "archive/data/3" else data)
    assert "numbers of float32, its storage has" in refusal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: {**header, NAMES[0]: {**header[NAMES[0]], "dtype": "O"}}, "the unknown type 'O'"),
        (
            lambda header: {**header, NAMES[0]: {**header[NAMES[0]], "shape": [9]}},
            "takes 36 bytes but has 32",
        ),
        (lambda header: {**header, NAMES[0]: {**header[NAMES[0]], "shape": [-8]}}, r"has the shape \[-8\]"),
        (
            lambda header: {**header, NAMES[0]: {"shape": [8]}},
            "not described by dtype, shape and data_offsets",
        ),
        (
            lambda header: {
                **header,
                NAMES[0]: {**header[NAMES[0]], "data_offsets": [1 << 60, (1 << 60) + 32]},
            },
            r"byte \d+ of the data",
        ),
        (lambda header: {**header, "twin": header[NAMES[0]]}, "starts at byte"),
        (lambda header: [1], "its header is no table"),
    ],
)
def test_headers_that_do_not_describe_the_data(make_file, edit_header, change, message):
    path = make_file("safetensors")
    edit_header(path, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(path, HINTS)


def test_header_longer_than_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 7 + b"\x7f{}")
    assert "its header would be" in refusal(path)


@pytest.mark.parametrize("place", ["/etc/", "../../elsewhere", "..", "", "a b", "target\0"])
def test_index_that_points_elsewhere(make_file, edit_index, place):
    folder = make_file("t5x")

    def point(index):
        leaf = index["optimizer"]["target"]["decoder"]["decoder_norm"]
        leaf["scale"]["kvstore"] = {"driver": "http", "base_url": "http://localhost", "path": place}

    edit_index(folder, point)
    assert "decoder/decoder_norm/scale is" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(version=9), "its version is 9"),
        (lambda index: index.update(hook="os.system"), "the unknown entries hook"),
        (lambda index: index["optimizer"].update(rng=1), "optimizer has the unknown entries rng"),
        (lambda index: index["optimizer"]["state"].update(extra={}), "state has the unknown entries extra"),
        (lambda index: index["optimizer"].update(target=[1]), "target is list where a table should be"),
        (lambda index: index["optimizer"]["target"].update(a=1), "a is int where an array should be"),
        (lambda index: index["optimizer"]["target"].update(a=msgpack.ExtType(5, b"")), "extension type 5"),
        (
            lambda index: index["optimizer"]["target"].update(
                a=msgpack.ExtType(1, msgpack.packb([[1], "object", b"\0" * 8]))
            ),
            "type 'object'",
        ),
        (
            lambda index: index["optimizer"]["target"].update(
                a=msgpack.ExtType(1, msgpack.packb([[2], "float32", b"\0" * 4]))
            ),
            "damaged",
        ),
    ],
)
def test_index_with_more_than_arrays(make_file, edit_index, change, message):
    folder = make_file("t5x")
    edit_index(folder, change)
    assert message in refusal(folder)


def test_zarr_metadata_cannot_choose_a_filter(make_file):
    folder = make_file("t5x")
    path = folder / "target.decoder.decoder_norm.scale" / ".zarray"
    text = path.read_text()
    for old, new in (('"filters":null', '"filters":[{"id":"pickle"}]'), ('"<f4"', '"|O"')):
        assert old in text
        path.write_text(text.replace(old, new))
        assert "decoder/decoder_norm/scale is missing, damaged or cut short" in refusal(folder)


def test_npz_with_something_else_in_it(make_file):
    path = make_file("npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("payload.pkl", pickle.dumps([1]))
    assert "holds 'payload.pkl', which is no array" in refusal(path)
    np.savez(path, **{NAMES[0]: np.zeros(2, np.complex64)})
    assert "is of no known network" in refusal(path)


def test_tied_arrays_that_differ(port_state, write_pth, tmp_path):
    path = tmp_path / "mt3.pth"
    write_pth(
        path, {**port_state, "decoder.embed_tokens.weight": port_state["decoder_embed_tokens.weight"] + 1}
    )
    assert "decoder.embed_tokens.weight differs from the array that it is another name of" in refusal(path)


def test_arrays_of_integers_or_text_are_no_parameters(tmp_path, arrays, port_state, write_pth):
    path = tmp_path / "mt3.pth"
    write_pth(path, {**port_state, NAMES[1]: np.zeros(8, np.int64)})
    assert "decoder/decoder_norm/scale is int64[8] in the checkpoint and float32[8] here" in refusal(path)
    path = tmp_path / "model.npz"
    np.savez(path, **{**arrays, NAMES[0]: np.zeros(8, np.int32)})
    assert "decoder/decoder_norm/scale is int32[8] in the checkpoint and float32[8] here" in refusal(path)
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, NAMES[0]: np.zeros(8, "S4")})
    path.write_bytes(buffer.getvalue())
    assert "decoder/decoder_norm/scale is |S4[8] in the checkpoint" in refusal(path)
