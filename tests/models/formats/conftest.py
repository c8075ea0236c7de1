"""Checkpoints of every format, of one small network; and `torch.save` without PyTorch."""

import json
import shutil
import struct
import zipfile

import msgpack
import numpy as np
import pytest

from mt3.models.formats import write_model
from mt3.models.formats.base import StoredArray, StoredModel
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.models.tree_shapes import named_leaves

SPEC = ModelSpec(
    network=TransformerConfig(
        emb_dim=8, num_heads=2, head_dim=4, mlp_dim=12, num_encoder_layers=1, num_decoder_layers=2
    ),
)
# PyTorch's names by ours: Hugging Face's T5 v1.1, and what the port has besides.
_KERNELS = {"query": "q", "key": "k", "value": "v", "out": "o"}
_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(scope="session")
def arrays():
    """Parameters of `spec` by path."""
    leaves = named_leaves(TranscriptionModel(SPEC).abstract_params())
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 1, leaf.shape).astype(np.float32) for name, leaf in leaves.items()}


@pytest.fixture(scope="session")
def stored():
    """From arrays by name to a `StoredModel`."""

    def make(arrays, path, spec=None, step=None):
        return StoredModel(
            path,
            {name: StoredArray.of(array) for name, array in arrays.items()},
            spec and spec.to_dict(),
            step,
        )

    return make


def _attention(ours, theirs):
    return {f"{ours}/{name}/kernel": f"{theirs}.{short}.weight" for name, short in _KERNELS.items()}


def _mlp(ours, theirs):
    return {f"{ours}/{name}/kernel": f"{theirs}.{name}.weight" for name in ("wi_0", "wi_1", "wo")}


@pytest.fixture(scope="session")
def port_names():
    """Our path -> the port's name, for `spec`."""
    names = {
        "encoder/continuous_inputs_projection/kernel": "proj.weight",
        "encoder/encoder_norm/scale": "encoder.final_layer_norm.weight",
        "decoder/token_embedder/embedding": "decoder_embed_tokens.weight",
        "decoder/decoder_norm/scale": "decoder.final_layer_norm.weight",
        "decoder/logits_dense/kernel": "lm_head.weight",
    }
    for n in range(SPEC.network.num_encoder_layers):
        ours, theirs = f"encoder/layers_{n}", f"encoder.block.{n}.layer"
        names |= _attention(f"{ours}/attention", f"{theirs}.0.SelfAttention")
        names |= {f"{ours}/pre_attention_layer_norm/scale": f"{theirs}.0.layer_norm.weight"}
        names |= _mlp(f"{ours}/mlp", f"{theirs}.1.DenseReluDense")
        names |= {f"{ours}/pre_mlp_layer_norm/scale": f"{theirs}.1.layer_norm.weight"}
    for n in range(SPEC.network.num_decoder_layers):
        ours, theirs = f"decoder/layers_{n}", f"decoder.block.{n}.layer"
        names |= _attention(f"{ours}/self_attention", f"{theirs}.0.SelfAttention")
        names |= {f"{ours}/pre_self_attention_layer_norm/scale": f"{theirs}.0.layer_norm.weight"}
        names |= _attention(f"{ours}/encoder_decoder_attention", f"{theirs}.1.EncDecAttention")
        names |= {f"{ours}/pre_cross_attention_layer_norm/scale": f"{theirs}.1.layer_norm.weight"}
        names |= _mlp(f"{ours}/mlp", f"{theirs}.2.DenseReluDense")
        names |= {f"{ours}/pre_mlp_layer_norm/scale": f"{theirs}.2.layer_norm.weight"}
    return names


@pytest.fixture(scope="session")
def port_state(arrays, port_names):
    """The same parameters as the port's state dictionary has them, its positions included."""
    state = {
        port_names[name]: array.T if name.endswith("/kernel") else array for name, array in arrays.items()
    }
    state["encoder.embed_tokens.weight"] = state["proj.weight"]
    state["decoder.embed_tokens.weight"] = state["decoder_embed_tokens.weight"]
    half = SPEC.network.emb_dim // 2
    frequencies = np.float32(10000.0) ** (-np.arange(half, dtype=np.float32) / (half - 1))
    for side in ("encoder", "decoder"):
        state[f"{side}.pos_emb.inv_freq"] = frequencies
    return state


def _text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value):
    return b"J" + struct.pack("<i", value)


def _numbers(values):
    return b"(" + b"".join(map(_integer, values)) + b"t"


def _tensor(key, array):
    strides = np.ascontiguousarray(array).strides if array.ndim != 2 else (array.strides[0], array.strides[1])
    storage = f"ctorch\n{_STORAGES[str(array.dtype)]}\n".encode()
    reference = b"(" + _text("storage") + storage + _text(key) + _text("cpu") + _integer(array.size) + b"tQ"
    sizes = _numbers(array.shape) + _numbers(stride // array.itemsize for stride in strides)
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + _integer(0) + sizes + b"\x89" + hooks + b"tR"


@pytest.fixture(scope="session")
def write_pth():
    """Writes arrays as `torch.save` writes a state dictionary; a transposed array keeps its storage."""

    def write(path, arrays, before=b"", program=None):
        items = b"".join(
            _text(name) + _tensor(str(key), array) for key, (name, array) in enumerate(arrays.items())
        )
        metadata = b"}" + _text("_metadata") + b"ccollections\nOrderedDict\n)Rsb"
        if program is None:
            program = (
                b"\x80\x02" + before + b"ccollections\nOrderedDict\n)Rq\x00(" + items + b"u" + metadata + b"."
            )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
            archive.writestr("archive/byteorder", "little")
            for key, array in enumerate(arrays.values()):
                archive.writestr(f"archive/data/{key}", array.tobytes(order="A"))
            archive.writestr("archive/version", "3\n")

    return write


@pytest.fixture(scope="session")
def unchanged_t5x(arrays, stored, tmp_path_factory):
    """A T5X directory of the parameters; writing one takes longer than copying it."""
    path = tmp_path_factory.mktemp("unchanged") / "checkpoint_7"
    write_model(path, stored(arrays, path), "t5x")
    return path


@pytest.fixture
def make_file(arrays, port_state, stored, write_pth, unchanged_t5x, tmp_path):
    """Writes the parameters, after a change of them if one is given, in a format -> path."""
    names = {
        "t5x": "checkpoint_7",
        "safetensors": "model.safetensors",
        "npz": "model.npz",
        "pytorch": "mt3.pth",
    }

    def make(format_name, change=None):
        path = tmp_path / names[format_name]
        changed = change or (lambda arrays: arrays)
        if format_name == "pytorch":
            write_pth(path, changed(dict(port_state)))
        elif format_name == "t5x" and change is None:
            shutil.copytree(unchanged_t5x, path)
        else:
            write_model(path, stored(changed(dict(arrays)), path), format_name)
        return path

    return make


@pytest.fixture
def edit_index():
    """Applies a function to the index of a T5X directory, extension types kept as they are."""

    def edit(folder, change):
        path = folder / "checkpoint"
        index = msgpack.unpackb(path.read_bytes(), ext_hook=msgpack.ExtType)
        change(index)
        path.write_bytes(msgpack.packb(index))

    return edit


@pytest.fixture
def edit_header():
    """Applies a function to the header of a safetensors file."""

    def edit(path, change):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        text = json.dumps(change(header) or header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return edit
