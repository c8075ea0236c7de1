"""Each format reads what it has written, and what its own makers have."""

import filecmp
import json
import logging
import shutil
import struct
import zipfile

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mt3.models.checkpoints import CheckpointError
from mt3.models.formats import FORMATS, find_format, get_format, open_model, write_model
from mt3.models.formats.base import StoredArray, StoredModel

WRITTEN = [name for name in FORMATS if get_format(name).write is not None]
SUFFIXES = {"t5x": "", "safetensors": ".safetensors", "npz": ".npz"}


def values(model):
    return {name: array.read() for name, array in model.arrays.items()}


def equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_three_formats_are_written():
    assert set(WRITTEN) == set(SUFFIXES)
    with pytest.raises(ValueError, match="'pytorch' is only read: choose one of t5x, safetensors, npz"):
        write_model("model.pth", StoredModel(None, {}), "pytorch")
    with pytest.raises(ValueError, match="format is 'onnx': choose one of t5x, "):
        get_format("onnx")


@pytest.mark.parametrize("name", WRITTEN)
def test_writing_and_reading_is_the_identity(arrays, spec, stored, tmp_path, name):
    path = tmp_path / f"checkpoint_12{SUFFIXES[name]}"
    write_model(path, stored(arrays, path, spec, step=12), name)
    assert find_format(path) == name
    model = open_model(path)
    equal(values(model), arrays)
    assert (model.spec, model.step) == (json.loads(json.dumps(spec.to_dict())), 12)
    assert {name: (array.shape, array.dtype) for name, array in model.arrays.items()} == {
        name: (array.shape, "float32") for name, array in arrays.items()
    }
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(CheckpointError, match="is there already: remove it"):
        write_model(path, model, name)


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_is_left_of_a_write_that_fails(arrays, tmp_path, name):
    def fail():
        raise CheckpointError("no luck")

    entries = {name: StoredArray.of(array) for name, array in arrays.items()}
    entries["z"] = StoredArray((1,), "float32", fail)
    with pytest.raises(CheckpointError, match="no luck"):
        write_model(tmp_path / f"out{SUFFIXES[name]}", StoredModel(tmp_path, entries), name)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=10, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text("abc_", min_size=1, max_size=4).map(lambda text: f"decoder/{text}"),
        hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)),
        max_size=3,
    ),
    name=st.sampled_from(["safetensors", "npz", "t5x"]),
)
def test_any_arrays_come_back(tmp_path_factory, arrays, name):
    path = tmp_path_factory.mktemp("any") / f"out{SUFFIXES[name]}"
    model = StoredModel(path, {key: StoredArray.of(array) for key, array in arrays.items()})
    write_model(path, model, name)
    equal(values(open_model(path)), arrays)


def test_a_directory_of_t5x_is_read(t5x_directory, golden_params_by_path):
    model = open_model(t5x_directory)
    equal(values(model), golden_params_by_path)
    assert (model.step, model.spec) == (0, None)
    # v, v_row, v_col and m of each.
    assert model.slots.keys() == {
        f"{name}/{slot}" for name in model.arrays for slot in ("v", "v_row", "v_col", "m")
    }
    norm = model.slots["decoder/decoder_norm/scale/v"]
    assert (norm.shape, norm.dtype) == ((32,), "float32")


def test_what_is_written_is_what_t5x_writes(t5x_directory, tmp_path):
    """Byte for byte: index, zarr metadata and chunks."""
    write_model(tmp_path / "out", open_model(t5x_directory), "t5x")
    names = [str(path.relative_to(t5x_directory)) for path in t5x_directory.rglob("*") if path.is_file()]
    assert len(names) == 205  # two files an array, and the index
    _, different, missing = filecmp.cmpfiles(t5x_directory, tmp_path / "out", names, shallow=False)
    assert (different, missing) == ([], [])
    assert len(list((tmp_path / "out").rglob("*"))) == len(list(t5x_directory.rglob("*")))


def test_a_t5x_checkpoint_is_found_by_its_index_and_in_its_model_directory(t5x_directory, tmp_path):
    assert open_model(t5x_directory / "checkpoint").path == t5x_directory
    for step in (9, 10):
        (tmp_path / f"checkpoint_{step}").symlink_to(t5x_directory)
    assert find_format(tmp_path) == "t5x"
    assert open_model(tmp_path).path == tmp_path / "checkpoint_10"


def test_older_t5x_layouts(t5x_directory, tmp_path, edit_index):
    """On Google Cloud Storage, by an older TensorStore, with a path that was another machine's."""
    folder = shutil.copytree(t5x_directory, tmp_path / "checkpoint_0")

    def change(index):
        index["version"] = 2
        leaf = index["optimizer"]["target"]["decoder"]["decoder_norm"]["scale"]
        leaf["kvstore"] = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
        leaf["path"] = "mt3/checkpoint_0/target.decoder.decoder_norm.scale"
        del index["optimizer"]["state"]["param_states"]

    edit_index(folder, change)
    model = open_model(folder)
    equal(values(model), values(open_model(t5x_directory)))
    assert model.slots == {}


def test_bfloat16_arrays_of_t5x(make_file, arrays, edit_index):
    folder = make_file("t5x")
    name = "target.encoder.encoder_norm.scale"
    halves = arrays["encoder/encoder_norm/scale"].astype(jnp.bfloat16)
    spec = {
        "driver": "zarr",
        "dtype": "bfloat16",
        "kvstore": {"driver": "file", "path": f"{folder / name}/"},
        "metadata": {"chunks": [4], "shape": [8], "compressor": {"id": "gzip", "level": 1}},
    }
    tensorstore.open(spec, create=True, delete_existing=True).result().write(halves).result()

    def change(index):
        leaf = index["optimizer"]["target"]["encoder"]["encoder_norm"]["scale"]
        leaf.update(dtype="bfloat16", metadata=spec["metadata"])

    edit_index(folder, change)
    array = open_model(folder).arrays["encoder/encoder_norm/scale"]
    assert array.dtype == "bfloat16"
    np.testing.assert_array_equal(array.read(), halves)


def test_arrays_and_steps_in_the_index_itself(tmp_path):
    """As T5X keeps what is not partitioned."""

    def packed(shape, dtype, data, code=1):
        return msgpack.ExtType(code, msgpack.packb([shape, dtype, data]))

    norm = {"scale": packed([2], "float32", struct.pack("<2f", 1.5, -2.0))}
    optimizer = {
        "target": {"norm": norm},
        "state": {"step": packed([], "int32", struct.pack("<i", 7), code=3)},
    }
    (tmp_path / "checkpoint").write_bytes(msgpack.packb({"version": 3, "optimizer": optimizer}))
    model = open_model(tmp_path)
    assert model.step == 7
    equal(values(model), {"norm/scale": np.array([1.5, -2.0], np.float32)})


def test_safetensors_of_another_program(tmp_path):
    """The example of the format's own description, with a type of two bytes."""
    header = {
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "a": {"dtype": "F16", "shape": [2, 1], "data_offsets": [4, 8]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]},
        "__metadata__": {"format": "pt"},
    }
    text = json.dumps(header).encode() + b"   "
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes.fromhex("803f 00c0 003c 00c0"))
    model = open_model(path)
    assert {name: array.dtype for name, array in model.arrays.items()} == {
        "b": "bfloat16",
        "a": "float16",
        "none": "float32",
    }
    assert values(model)["b"].astype(np.float32).tolist() == [1.0, -2.0]
    assert values(model)["a"].tolist() == [[1.0], [-2.0]]
    assert values(model)["none"].shape == (0, 3)
    assert (model.spec, model.step) == (None, None)


def test_npz_is_numpys(arrays, stored, tmp_path):
    path = tmp_path / "ours.npz"
    write_model(path, stored(arrays, path), "npz")
    with np.load(path) as loaded:
        equal(dict(loaded), arrays)
    np.savez_compressed(tmp_path / "theirs.npz", **{"a/b": np.asfortranarray(np.arange(6.0).reshape(2, 3))})
    array = open_model(tmp_path / "theirs.npz").arrays["a/b"]
    assert (array.shape, array.dtype) == ((2, 3), "float64")
    assert array.read().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", ["pytorch", "safetensors", "npz"])
def test_the_ports_names_become_the_published(arrays, port_state, stored, write_pth, tmp_path, name, caplog):
    if name == "pytorch":
        path = tmp_path / "mt3.pth"
        write_pth(path, port_state)
    else:
        path = tmp_path / f"mt3{SUFFIXES[name]}"
        write_model(path, stored(port_state, path), name)
    equal(values(open_model(path)), arrays)
    assert caplog.messages == []


def test_positions_of_other_frequencies_are_reported(port_state, write_pth, tmp_path, caplog):
    """Those that the port computes itself; the published network's reach 1 / 10000."""
    path = tmp_path / "mt3.pth"
    half = port_state["encoder.pos_emb.inv_freq"].size
    port = np.float32(10000.0) ** (-np.arange(half, dtype=np.float32) / half)
    write_pth(path, {**port_state, "encoder.pos_emb.inv_freq": port})
    with caplog.at_level(logging.WARNING):
        open_model(path)
    (message,) = caplog.messages
    assert "encoder.pos_emb.inv_freq has other frequencies than the published network's positions" in message


def test_parts_of_a_storage(write_pth, tmp_path):
    """Tensors that share one, such as q, k and v that were cut from one array."""
    path = tmp_path / "mt3.pth"
    write_pth(path, {"a": np.arange(6, dtype=np.float32), "b": np.zeros(6, np.float32)})
    with zipfile.ZipFile(path) as archive:
        program = archive.read("archive/data.pkl")
    # The second one reads the first one's storage: 2 x 2, from entry 1 on, in steps of 1 and 3.
    one, two, three, six = (b"J" + struct.pack("<i", number) for number in (1, 2, 3, 6))
    key, place, none = b"X\x01\x00\x00\x00", b"X\x03\x00\x00\x00cpu" + six + b"tQ", b"J" + bytes(4)
    old = key + b"1" + place + none + b"(" + six + b"t(" + one + b"t"
    new = key + b"0" + place + one + b"(" + two + two + b"t(" + one + three + b"t"
    assert old in program
    write_pth(path, {"a": np.arange(6, dtype=np.float32)}, program=program.replace(old, new))
    assert open_model(path).arrays["b"].read().tolist() == [[1, 4], [2, 5]]


def test_a_path_that_is_not_there(tmp_path):
    for name in ("run", "model.safetensors", "model.npz", "model.pth"):
        with pytest.raises(CheckpointError, match=f"{name} does not exist: give a run's directory"):
            open_model(tmp_path / name)
