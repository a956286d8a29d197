"""The public names with their parameters and defaults."""

import dataclasses
import importlib
import inspect
import re
import typing

import pytest

from tests.golden import Golden

MODULES = [
    "lgnn_jax",
    "lgnn_jax.losses",
    "lgnn_jax.som",
    "lgnn_jax.topography",
    "lgnn_jax.inspect",
    "lgnn_jax.inspect.atlas",
    "lgnn_jax.inspect.plots",
]
kept = Golden(__file__, "public")


def names(module):
    """Those that a module says are public, or that are its own and begin without an underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)

    def own(name, value):
        where = getattr(value, "__module__", None)
        if inspect.isfunction(value) or inspect.isclass(value):
            return where.startswith(module.__name__)
        return name.isupper() and not inspect.ismodule(value)

    return sorted(name for name, x in vars(module).items() if not name.startswith("_") and own(name, x))


def about(value):
    """A function's parameters and defaults; a class's with its public members; a constant's value."""
    if inspect.ismodule(value):
        return "module"
    if typing.get_origin(value) is not None:
        return "type"  # Which versions of JAX spell differently.
    if not inspect.isclass(value):
        return (
            signature(value) if inspect.isfunction(value) or hasattr(value, "__wrapped__") else text(value)
        )
    inherited = set(dir(tuple)) if issubclass(value, tuple) else set()
    found = {"()": signature(value)}
    for name in sorted(set(vars(value)) - inherited):
        member = inspect.getattr_static(value, name)
        if name.startswith("_"):
            continue
        found[name] = signature(member) if inspect.isfunction(member) else "attribute"
    if dataclasses.is_dataclass(value):
        found["frozen"] = str(value.__dataclass_params__.frozen)
    return found


def signature(call):
    """Without annotations: a type checker looks after those."""
    parameters = inspect.signature(call).parameters.values()
    plain = [x.replace(annotation=inspect.Parameter.empty) for x in parameters]
    return text(inspect.Signature(plain))


def text(value):
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize("name", MODULES)
def test_names_parameters_and_defaults(name):
    module = importlib.import_module(name)
    kept.check(name, {public: about(getattr(module, public)) for public in names(module)})


def test_no_module_is_pinned_in_vain():
    kept.check_cases(MODULES)
