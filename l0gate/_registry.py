"""Finding backends, methods and formats, built-in or from plugins: `get_backend`, the registry.

A distribution adds a backend through an entry point in the group `l0gate` whose module implements

    @l0gate.hookimpl
    def l0gate_backends():
        return [{"name": "jax", "module": "jax", "factory": "l0gate_jax:JaxBackend"}]

Descriptors are plain dicts, so that registering imports no framework. `module` is the framework's
top-level module: a backend is asked whether it owns an object only once that module is loaded.
For methods see `l0gate.methods`, for file formats `l0gate.formats`.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from l0gate._backend import INTERFACE, Backend
from l0gate._errors import L0GateError, warn

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pluggy import PluginManager

GROUP = "l0gate"  # of entry points
# pluggy is imported only where it is used, so that `import l0gate` stays fast.
L0 = "l0"  # the name of hard-concrete gates among the methods
_BUILT_IN = "l0gate"
_BUILT_INS = ("l0gate.backends._builtin", "l0gate.methods", "l0gate.formats._builtin")


@dataclass(frozen=True)
class Entry:
    """A registered backend; `make` imports its framework."""

    name: str
    module: str
    factory: str | Callable[[], Backend]
    distribution: str

    def make(self) -> Backend:
        """The backend itself."""
        backend = _called(self.factory, f"backend {self.name!r} of {self.distribution}")
        if not isinstance(backend, Backend):
            raise L0GateError(
                f"backend {self.name!r} of {self.distribution} is {backend!r};"
                " it must be a l0gate.Backend"
            )
        return backend

    def contradictions(self, backend: Backend) -> list[str]:
        """Messages about differences between the backend and its descriptor."""
        problems = []
        if backend.name != self.name:
            problems.append(
                f"backend {self.name!r} calls itself {backend.name!r}; the `name` of the class and"
                " that of its descriptor must be the same"
            )
        if self.module not in sys.modules:
            problems.append(
                f"backend {self.name!r} was made without importing {self.module!r}, the `module`"
                " of its descriptor; until something does, no array or model will find it"
            )
        return [f"l0gate plugin {self.distribution}: {problem}" for problem in problems]


@dataclass(frozen=True)
class PartEntry:
    """A registered method of choosing neurons, or a file format; `kind` says which."""

    kind: str
    name: str
    factory: str | Callable[[], Any]
    distribution: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.distribution}"

    def make(self) -> Any:
        """What the factory returns: the method or format with its default options."""
        return _called(self.factory, str(self))


def _called(factory: str | Callable[[], Any], what: str) -> Any:
    """Call a factory, given as a callable or as "module:attribute", and return its result."""
    try:
        if isinstance(factory, str):
            module, _, attribute = factory.partition(":")
            factory = getattr(importlib.import_module(module), attribute)
        return factory()  # type: ignore[operator]
    except Exception as error:  # a plugin may fail in any way; the message names it
        raise L0GateError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error


@dataclass
class Registry:
    """Backends by name and by type, methods and formats by name. Plugins are loaded one by one, so
    that a broken one does not affect the others."""

    entries: dict[str, Entry] = field(default_factory=dict)
    methods: dict[str, PartEntry] = field(default_factory=dict)
    formats: dict[str, PartEntry] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Never held during an import: another thread may hold Python's import lock and wait for
        # this lock, which would be a deadlock.
        self._lock = threading.RLock()
        self._made: dict[str, Backend] = {}
        self._by_type: dict[type, Backend] = {}
        self._plugins_loaded = False
        self._built_ins_loaded = False

    @cached_property
    def _manager(self) -> PluginManager:
        from pluggy import PluginManager

        from l0gate._hooks import PROJECT, Hooks

        manager = PluginManager(PROJECT)
        manager.add_hookspecs(Hooks)
        return manager

    def register(self, plugin: object, distribution: str) -> None:
        """Add all that one plugin offers. Problems become warnings that name the plugin."""
        self._load_built_ins()  # first, so that no plugin can take a built-in name
        self._warn(self._register(plugin, distribution))

    def _register(self, plugin: object, distribution: str, name: str = "") -> list[str]:
        with self._lock:
            try:
                self._manager.register(plugin, name=name or distribution)
                problems = self._unknown_hooks(plugin)
                hooks = self._manager.hook
                for caller, add in (
                    (hooks.l0gate_backends, self._add_backend),
                    (hooks.l0gate_methods, self._add_method),
                    (hooks.l0gate_formats, self._add_format),
                ):
                    for hook in caller.get_hookimpls():
                        if hook.plugin is plugin:
                            found = _descriptors(caller.name, hook.function())
                            problems += (
                                found
                                if isinstance(found, list)
                                else [p for d in found for p in add(d, distribution)]
                            )
            except (Exception, SystemExit) as error:  # whatever a plugin raises is reported
                if self._manager.is_registered(plugin):
                    self._manager.unregister(plugin)
                problems = [f"{type(error).__name__}: {error}"]
            return [f"l0gate plugin {distribution}: {problem}" for problem in problems]

    def unregister(self, distribution: str) -> None:
        """Remove a plugin with all that it registered (for tests and interactive use)."""
        with self._lock:
            plugin = self._manager.get_plugin(distribution)
            if plugin is not None:
                self._manager.unregister(plugin)
            gone = [n for n, e in self.entries.items() if e.distribution == distribution]
            for name in gone:
                del self.entries[name]
                self._made.pop(name, None)
            for parts in (self.methods, self.formats):
                for name in [n for n, e in parts.items() if e.distribution == distribution]:
                    del parts[name]
            self._by_type.clear()

    def names(self) -> list[str]:
        """Names of all backends, those of plugins included."""
        self._load_plugins()
        return list(self.entries)

    def by_name(self, name: str) -> Backend:
        """The backend of that name; its framework is imported here."""
        self._load_built_ins()
        # Looked up once: another thread may unregister it meanwhile.
        entry = self.entries.get(name)
        if entry is None:
            self._load_plugins()
            entry = self.entries.get(name)
        if entry is None:
            raise L0GateError(
                f"`backend` is {name!r}; registered are {', '.join(map(repr, self.entries))}"
                + "".join(f"\n  {problem}" for problem in self.problems)
            )
        made = self._made.get(name)
        if made is None:
            # Two threads may make it at once; both get the one that was first.
            made = self._made.setdefault(name, entry.make())
            self._warn(entry.contradictions(made))
        return made

    def method_names(self) -> list[str]:
        """Names of all methods, those of plugins included; hard-concrete gates first."""
        self._load_plugins()
        return [L0, *self.methods]

    def method(self, name: str) -> PartEntry:
        """The entry of the method of that name."""
        return self._part("method", name, self.methods, self.method_names)

    def format_names(self) -> list[str]:
        """Names of all file formats, those of plugins included."""
        self._load_plugins()
        return list(self.formats)

    def format(self, name: str) -> PartEntry:
        """The entry of the file format of that name."""
        return self._part("format", name, self.formats, self.format_names)

    def _part(
        self,
        kind: str,
        name: str,
        parts: Mapping[str, PartEntry],
        names: Callable[[], list[str]],
    ) -> PartEntry:
        self._load_built_ins()
        if name not in parts:
            self._load_plugins()
        if name not in parts:
            raise L0GateError(
                f"`{kind}` is {name!r}; registered are {', '.join(map(repr, names()))}"
                + "".join(f"\n  {problem}" for problem in self.problems)
            )
        return parts[name]

    def by_object(self, x: object) -> Backend:
        """The backend that owns an array or a model."""
        found = self._by_type.get(type(x))
        if found is not None:
            return found
        self._load_built_ins()
        found = self._owner(x)
        if found is None:
            self._load_plugins()
            found = self._owner(x)
        if found is None:
            raise L0GateError(
                f"no backend owns {type(x).__module__}.{type(x).__qualname__}; registered are"
                f" {', '.join(map(repr, self.entries))}"
                + "".join(f"\n  {problem}" for problem in self.problems)
            )
        self._by_type[type(x)] = found
        return found

    def _owner(self, x: object) -> Backend | None:
        problems: list[str] = []
        for entry in list(self.entries.values()):
            if entry.module not in sys.modules:
                continue
            try:
                backend = self.by_name(entry.name)
                if backend.owns(x) or backend.owns_model(x):
                    return backend
            except Exception as error:  # a broken backend must not hide the one that fits
                problems.append(f"l0gate plugin {entry.distribution}: {error}")
        self._warn(problems)
        return None

    def _load_built_ins(self) -> None:
        if not self._built_ins_loaded:
            plugins = [importlib.import_module(name) for name in _BUILT_INS]
            with self._lock:
                if not self._built_ins_loaded:
                    for plugin in plugins:
                        self._warn(self._register(plugin, _BUILT_IN, plugin.__name__))
                    self._built_ins_loaded = True

    def _load_plugins(self) -> None:
        self._load_built_ins()
        if self._plugins_loaded:
            return
        allowed = os.environ.get("L0GATE_PLUGINS")
        loaded, problems = [], []
        for point in entry_points(group=GROUP):
            if allowed is None or point.name in _listed(allowed):
                try:
                    loaded.append((point.load(), _distribution(point)))
                except (Exception, SystemExit) as error:  # an import may fail in any way
                    problems.append(
                        f"l0gate plugin {_distribution(point)}: {type(error).__name__}: {error}"
                    )
        with self._lock:
            if self._plugins_loaded:  # by another thread, meanwhile
                return
            for plugin, distribution in loaded:
                problems += self._register(plugin, distribution)
            self._plugins_loaded = True
        self._warn(problems)

    def _unknown_hooks(self, plugin: object) -> list[str]:
        callers = vars(self._manager.hook).values()
        known = sorted(caller.name for caller in callers if caller.has_spec())
        marked = [
            name
            for name in dir(plugin)
            if self._manager.parse_hookimpl_opts(plugin, name) is not None
        ]
        if not marked:
            return [f"implements no hook; hooks are {known}"]
        return [
            f"implements {name!r}, which is no hook; hooks are {known}"
            for name in marked
            if name not in known
        ]

    def _add_backend(self, descriptor: object, distribution: str) -> list[str]:
        given: Any = descriptor if isinstance(descriptor, dict) else {}
        name, module, factory = given.get("name"), given.get("module"), given.get("factory")
        interface = given.get("interface", INTERFACE)
        if not (_is_name(name) and _is_name(module) and _is_factory(factory)):
            return [f"the descriptor {descriptor!r} must be a dict with name, module and factory"]
        if interface != INTERFACE:
            return [
                f"backend {name!r} was built for interface {interface}; this l0gate has {INTERFACE}"
            ]
        if name in self.entries:
            return [_taken("backend", self.entries[name])]
        self.entries[name] = Entry(name, module, factory, distribution)
        return []

    def _add_method(self, descriptor: object, distribution: str) -> list[str]:
        return self._add_part("method", self.methods, descriptor, distribution)

    def _add_format(self, descriptor: object, distribution: str) -> list[str]:
        return self._add_part("format", self.formats, descriptor, distribution)

    def _add_part(
        self, kind: str, parts: dict[str, PartEntry], descriptor: object, distribution: str
    ) -> list[str]:
        given: Any = descriptor if isinstance(descriptor, dict) else {}
        name, factory = given.get("name"), given.get("factory")
        if not (_is_name(name) and _is_factory(factory)):
            return [f"the descriptor {descriptor!r} must be a dict with name and factory"]
        if name in parts:
            return [_taken(kind, parts[name])]
        if kind == "method" and name == L0:
            return [f"method {name!r} is the name of hard-concrete gates; take another name"]
        parts[name] = PartEntry(kind, name, factory, distribution)
        return []

    def _warn(self, problems: list[str]) -> None:
        # Record all problems before the first warning: if warnings are turned into errors, the
        # first one ends this function.
        new = [problem for problem in problems if problem not in self.problems]
        self.problems += new
        for problem in new:
            warn(problem)


def _descriptors(hook: str, found: object) -> list[str] | tuple[object, ...]:
    """Check what a hook returned: the descriptors as a tuple, or a list of problems with them."""
    if not isinstance(found, (list, tuple)):
        return [f"{hook} returned {found!r}; it must return a list"]
    return tuple(found)


def _is_name(given: object) -> bool:
    return isinstance(given, str) and given != ""


def _is_factory(given: object) -> bool:
    return isinstance(given, str) or callable(given)


def _taken(kind: str, entry: Entry | PartEntry) -> str:
    return f"{kind} {entry.name!r} is registered already by {entry.distribution}, which stays"


def entry_points(group: str) -> Iterable[EntryPoint]:
    """The entry points of a group. `importlib.metadata` is imported here because it is slow."""
    from importlib import metadata

    return metadata.entry_points(group=group)


def _distribution(point: EntryPoint) -> str:
    name = point.dist.name if point.dist is not None else "an unknown distribution"
    return f"{name} (entry point {point.name!r})"


def _listed(allowed: str) -> set[str]:
    return {name.strip() for name in allowed.split(",") if name.strip()}


registry = Registry()


def get_backend(which: object) -> Backend:
    """The backend of that name, or the one that owns an array or a model.

    Entry points (group `l0gate`) are read only when no built-in backend fits. The environment
    variable `L0GATE_PLUGINS` limits them to the comma-separated entry point names it lists.

    >>> import numpy as np
    >>> get_backend(np.zeros(3)), get_backend("numpy")
    (<l0gate backend numpy>, <l0gate backend numpy>)
    >>> get_backend("nunpy")
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `backend` is 'nunpy'; registered are 'numpy', 'torch'
    """
    if isinstance(which, Backend):
        return which
    return registry.by_name(which) if isinstance(which, str) else registry.by_object(which)
