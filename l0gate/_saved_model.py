"""`save` and `load`: a small model as a file, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from l0gate._certificate import Certificate
from l0gate._chain import Chain
from l0gate._checks import check_kept
from l0gate._errors import L0GateError, check
from l0gate._registry import get_backend
from l0gate.files import check_path, write_atomically
from l0gate.layout.layout import Layout
from l0gate.npz import pack, unpack

FORMAT = 2
INT8_FORMAT = 3  # of files with int8 weights, which older versions cannot read


@dataclass(frozen=True)
class Deviation:
    """How far outputs moved when weights were stored in int8, over `sequences` sequences.

    `error_to_signal` is the sum of squared differences divided by that of the outputs.
    """

    max_abs_difference: float
    error_to_signal: float
    sequences: int

    def __str__(self) -> str:
        return (
            f"int8 weights: outputs moved by at most {self.max_abs_difference:.2g}, error-to-signal"
            f" ratio {self.error_to_signal:.2g}, on {self.sequences} sequences"
        )


@dataclass(frozen=True)
class SavedModel:
    """The content of a file: the small model's arrays, with the dense model's parameter names.

    `chain` describes a model that `l0gate.load` can run by itself; without one, loading needs
    `into=`. `kept` has the indices of the kept neurons per axis, `dense_sizes` the number of all.
    `metadata` is any JSON of the user, such as a vocabulary. `held` is what the backend notes of a
    model beside its parameters, by kind and name. `scales` has a scale (O,) for every row of the
    parameters that are stored in int8, and `deviation` how far that moved the outputs.
    """

    parameters: Mapping[str, np.ndarray]
    layout: Layout
    kept: Mapping[str, np.ndarray]
    dense_sizes: Mapping[str, int]
    chain: Chain | None = None
    certificate: Certificate | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    held: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scales: Mapping[str, np.ndarray] = field(default_factory=dict)
    deviation: Deviation | None = None

    def float_parameters(self) -> dict[str, Any]:
        """The parameters in float32: what is stored in int8, times its scales."""
        return {
            name: value
            if name not in self.scales
            else value * self.scales[name].reshape(-1, *[1] * (value.ndim - 1))
            for name, value in self.parameters.items()
        }

    def to_torch(self) -> Any:
        """A torch module of the chain's layers, to train, gate and shrink: `y, states = model(x)`.

        Layers whose sizes differ within one stack, and functions that torch's modules lack, raise
        `L0GateError`.
        """
        if self.chain is None:
            raise L0GateError(
                "the saved model is no chain of layers; load it with `into=` the model's class"
            )
        index, size = self.input_kept or (np.zeros(0), 0)
        check(
            len(index) == size,
            f"the net reads {len(index)} of {size} inputs, which a torch module here cannot choose",
        )
        return get_backend("torch").chain_model(self)

    @property
    def input_kept(self) -> tuple[np.ndarray, int] | None:
        """The indices of the kept input features, and how many the dense model has.

        None if no recurrent layer reads the input features.
        """
        axis = None if self.chain is None else self.chain.input_axis
        return None if axis is None else (self.kept[axis], self.dense_sizes[axis])

    def net(self, engine: str = "numpy") -> Any:
        """The NumPy net: `net(x, state=None) -> (y, state)`; `step`, `stream` for single steps."""
        if self.chain is None:
            raise L0GateError(
                "the saved model is not a chain of embedding, recurrent, linear and activation"
                " layers, so it cannot run by itself; load it with `into=` a class or a function"
                " that builds it"
            )
        from l0gate.reference import Net

        chain = self.chain
        states = [(self.kept[a], self.dense_sizes[a]) for a in chain.state_axes if a in self.kept]
        net = Net(chain.layers, batch_first=chain.batch_first).bind(
            self.float_parameters(),
            input_kept=self.input_kept,
            kept=states if len(states) == len(chain.state_axes) else None,
            engine=engine,
        )
        net.saved = self
        return net


def save(
    path: str | os.PathLike[str], small: Any, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a small model to one file, atomically: a crash leaves the old file or the new one.

    `small` is what `shrink()` returned, a net that `load` returned, or a `SavedModel`.
    `metadata` is any JSON to save with it.

    >>> import l0gate, numpy as np, tempfile, os
    >>> net = l0gate.get_backend("numpy").net([{"type": "linear", "name": "out"}])
    >>> small = net.bind({"out.weight": np.ones((2, 3)), "out.bias": np.zeros(2)})
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> l0gate.save(path, small)
    >>> y, state = l0gate.load(path)(np.ones((5, 1, 3)))
    >>> y.shape, float(y.max())
    ((5, 1, 2), 3.0)
    """
    check(
        not isinstance(small, Mapping),
        "`small` is a dict of arrays, which cannot run by itself; bind it to a net"
        " (`get_backend('numpy').net(layers).bind(small)`) or give a `SavedModel`",
    )
    saved = saved_model_of(small, "small")
    if metadata is not None:
        if not isinstance(metadata, Mapping):  # no check(): a deep one has no repr
            raise L0GateError(f"`metadata` is {metadata!r}; it must be a dict")
        saved = SavedModel(**{**vars(saved), "metadata": dict(metadata)})
    write_atomically(path, _encode(saved))


def saved_model_of(model: Any, name: str) -> SavedModel:
    """The `SavedModel` of a net or small model, or the given one; `name` is for messages."""
    if isinstance(model, SavedModel):
        return model
    backend = get_backend(model)
    check(backend.owns_model(model), f"`{name}` is {type(model).__name__}; it must be a model")
    described: SavedModel = backend.describe(model)
    return described


def load(path: str | os.PathLike[str], *, into: Any = None, engine: str = "numpy") -> Any:
    """Read a small model, as a NumPy net or, with `into`, as a model of a framework.

    Without `into` the file must hold a chain of embedding, recurrent, linear and activation layers.
    The net then needs only NumPy. `engine="numba"` runs it in compiled code, which is faster, takes
    half a second to import, and compiles for some seconds in the first call on a machine; "auto" is
    numba if it is installed. Inputs have the layout of the original model's: time first, (T, B) or
    (T, B, features), or batch first.
    `into` is a model class, a function that returns the dense model, or a dense model: it is
    rebuilt with the small sizes.

    A file that is truncated, altered or not from l0gate raises `L0GateError`. Pickle is not used.
    """
    saved = read(path)
    if into is None:
        try:
            return saved.net(engine)
        except L0GateError as error:
            raise L0GateError(f"`path` {os.fspath(path)!r}: {error}") from None
    try:
        backend, model = get_backend(into), into
    except L0GateError:
        check(callable(into), f"`into` is {into!r}; it must be a model, or build one when called")
        try:
            model = into()
        except TypeError as error:
            raise L0GateError(
                f"`into` is {into!r}, which cannot be called without arguments ({error}); give a"
                " function that returns the dense model, or the model"
            ) from None
        backend = get_backend(model)
    return backend.rebuild(model, saved)


def read(path: str | os.PathLike[str]) -> SavedModel:
    """The content of a file, checked."""
    try:
        file = open(check_path(path), "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise L0GateError(f"`path` {os.fspath(path)!r} cannot be read: {error.strerror}") from None
    try:
        with file:
            try:
                return _decode(file)
            except L0GateError:
                if _is_pickled(file):
                    raise L0GateError(
                        "is no l0gate file but one of torch.save, or another pickle: give it to"
                        " torch.load, or save the small model with l0gate.save"
                    ) from None
                raise
    except L0GateError as error:
        raise L0GateError(f"`path` {os.fspath(path)!r} {error}") from None


def _is_pickled(file: BinaryIO) -> bool:
    """Whether `torch.save` wrote a file: a zip file with a pickle, or, long ago, a pickle."""
    import zipfile

    if not file.seekable():  # a pipe
        return False
    file.seek(0)
    start = file.read(2)
    if start == b"PK" and zipfile.is_zipfile(file):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    return len(start) == 2 and start[0] == 0x80 and start[1] <= 5


def _encode(saved: SavedModel) -> bytes:
    from l0gate._version import __version__

    arrays: dict[str, np.ndarray] = {}
    slices: dict[str, int] = {}  # the number of slices of a parameter whose slices differ in shape
    for name, value in saved.parameters.items():
        if isinstance(value, (list, tuple)):
            slices[name] = len(value)
            arrays |= {f"parameters/{name}[{i}]": part for i, part in enumerate(value)}
        else:
            arrays[f"parameters/{name}"] = value
    arrays |= {f"scales/{name}": values for name, values in saved.scales.items()}
    arrays |= {f"kept/{axis}": np.asarray(index, np.int64) for axis, index in saved.kept.items()}
    certificate = saved.certificate
    manifest = {
        "format": "l0gate",
        "format_version": INT8_FORMAT if saved.scales else FORMAT,
        "l0gate_version": __version__,
        "layout": saved.layout.to_dict(),
        "uses": saved.layout.given_uses,
        "sizes": saved.layout.given_sizes,
        "slices": slices,
        "dense_sizes": {axis: int(size) for axis, size in saved.dense_sizes.items()},
        "chain": None
        if saved.chain is None
        else {"layers": list(saved.chain.layers), "batch_first": saved.chain.batch_first},
        "certificate": None
        if certificate is None
        else {name: getattr(certificate, name) for name in _CERTIFIED},
        "metadata": dict(saved.metadata),
    }
    if saved.held:
        manifest["held"] = {kind: dict(found) for kind, found in saved.held.items()}
    if saved.deviation is not None:
        manifest["deviation"] = vars(saved.deviation)
    return pack(arrays, manifest)


_CERTIFIED = (
    "max_abs_difference",
    "max_abs_difference_float32",
    "max_abs_output",
    "sequences",
    "forced_open",
    "forced_closed",
)


def _decode(file: BinaryIO) -> SavedModel:
    arrays, manifest = unpack(file)
    check(manifest.get("format") == "l0gate", "is no l0gate model")
    version = manifest.get("format_version")
    check(
        version in (FORMAT, INT8_FORMAT),
        f"has format version {version!r}; this l0gate reads {FORMAT} and {INT8_FORMAT}"
        f" (it was written by l0gate {manifest.get('l0gate_version')})",
    )
    try:
        return _saved_model(arrays, manifest)
    except L0GateError as error:
        raise L0GateError(f"has a damaged manifest: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise L0GateError(f"has a damaged manifest: {type(error).__name__}: {error}") from None


def _saved_model(arrays: dict[str, np.ndarray], manifest: dict[str, Any]) -> SavedModel:
    parameters: dict[str, Any] = _below(arrays, "parameters/")
    for name, count in manifest["slices"].items():
        parameters[name] = tuple(parameters.pop(f"{name}[{i}]") for i in range(count))
    kept, scales = _below(arrays, "kept/"), _below(arrays, "scales/")
    for name, values in scales.items():
        stored = parameters.get(name)
        check(
            isinstance(stored, np.ndarray) and values.shape == stored.shape[:1],
            f"its scales of {name!r} do not fit the array",
        )
    deviation = manifest.get("deviation")
    sizes = {str(axis): int(size) for axis, size in manifest["dense_sizes"].items()}
    check_kept(kept, {axis: np.zeros(size, dtype=bool) for axis, size in sizes.items()})
    check(isinstance(manifest["metadata"], dict), "its metadata is no JSON object")
    chain, certificate = manifest["chain"], manifest["certificate"]
    return SavedModel(
        parameters=parameters,
        layout=Layout(manifest["layout"], uses=manifest["uses"], sizes=manifest["sizes"]),
        kept=kept,
        dense_sizes=sizes,
        chain=None if chain is None else Chain(chain["layers"], chain["batch_first"]),
        certificate=None
        if certificate is None
        else Certificate(
            **{name: certificate[name] for name in _CERTIFIED}, kept=kept, dense_sizes=sizes
        ),
        metadata=manifest["metadata"],
        version=manifest["l0gate_version"],
        held={
            str(kind): {str(name): str(text) for name, text in found.items()}
            for kind, found in manifest.get("held", {}).items()
        },
        scales=scales,
        deviation=None if deviation is None else Deviation(**deviation),
    )


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
