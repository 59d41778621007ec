"""l0gate: learned binary gates that make LSTMs and GRUs smaller and faster.

The modules, in reading order:

- `layout`: the axis notation; folding gates, removing neurons, costs
- `_hard_concrete`: the distribution of one gate, its formulas and gradients
- `_method`: how neurons are chosen; hard-concrete gates are the default method
- `methods`: other ways to choose neurons, such as magnitude
- `_budget`, `_controller`: what the small model may cost, and the penalty that leads there
- `_state`, `_checks`: the gate state, a dict of arrays; checks of what a pruner is given
- `_selection`: the cut that meets a budget exactly
- `_reconstruction`: readers of kept neurons take over what dropped ones contributed
- `_moments`: second moments of neurons, as their readers see them
- `_calibration`: the best cut without any training, by errors measured on calibration data
- `_certificate`: the small and the gated model, compared
- `_arguments`: which argument was wrong, when a method of a pruner has failed
- `_pruner_model`, `_pruner_training`, `_pruner`: `Pruner` in three parts: what it knows of the
  model, what a training step calls, and selection, shrinking and the certificate
- `_gate`: `gate`, from a model of any framework to its gated model
- `_vocabulary`, `_chain`: the kinds of layers of a net; the layout of a net that is a list of them
- `_saved_model`, `npz`, `files`: saving and loading, without pickle
- `_quantize`: weights in eight bits
- `formats`: files that other programs read and write: `export` and `import_`
- `reports`: what the gates have decided so far, as text, JSON and a picture
- `_backend`, `_registry`, `_hooks`: the abstract tensor interface, and how plugins are found
- `backends`: NumPy and PyTorch
- `reference`: LSTM and GRU with hand-derived gradients, and the nets that run without a framework
- `cli`, `testing`: the command line, and the conformance kit for backends
- `_errors`, `_later`, `_former_names`, `_version`: the error class; names that are imported on
  first access; names of modules in older pickles
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from l0gate import _former_names
from l0gate._backend import Backend
from l0gate._budget import Budget
from l0gate._errors import L0GateError
from l0gate._gate import gate
from l0gate._hard_concrete import HardConcrete
from l0gate._later import import_later
from l0gate._pruner import Pruner
from l0gate._registry import get_backend
from l0gate._version import __version__ as __version__
from l0gate.layout.layout import Layout

if TYPE_CHECKING:
    from l0gate._calibration import calibrate
    from l0gate._hooks import hookimpl
    from l0gate._quantize import quantize
    from l0gate._saved_model import SavedModel, load, save
    from l0gate.formats.export import export, import_
    from l0gate.reports.report import report

__all__ = [
    "Backend",
    "Budget",
    "HardConcrete",
    "L0GateError",
    "Layout",
    "Pruner",
    "SavedModel",
    "calibrate",
    "export",
    "gate",
    "get_backend",
    "hookimpl",
    "import_",
    "load",
    "quantize",
    "report",
    "save",
]
_former_names.install()
# Not imported here, because most programs do not need them.
__getattr__, __dir__ = import_later(
    __name__,
    __all__,
    {
        "calibrate": "_calibration",
        "export": "formats.export",
        "hookimpl": "_hooks",
        "import_": "formats.export",
        "load": "_saved_model",
        "quantize": "_quantize",
        "report": "reports.report",
        "SavedModel": "_saved_model",
        "save": "_saved_model",
    },
    submodules=("backends", "files", "formats", "methods", "npz", "reference", "testing"),
)
