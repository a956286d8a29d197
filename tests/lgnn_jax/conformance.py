"""Optax's own tests, run on ours: ``python -m tests.lgnn_jax.conformance contrib sgd``, in a process of its own.

Optax ships its tests. The generic ones take their cases from tables at the top of their modules, which
decorators read at import, and look factories up by name. Here the module's file is executed anew under a
private name with our tables, and looks factories up among ours first; nothing installed is changed.

Prints a line of JSON: the outcome of every test by its name, or why there is none.
"""

import argparse
import ast
import importlib
import importlib.util
import json
import pathlib
import sys
import types
import unittest

import jax
import jax.numpy as jnp
import optax

from lgnn_jax import Grid, HeatKernel, Layer, Window, decreasing_sigma, lgnn


class LastAxis:
    """Every floating leaf with a dimension on a row along its last axis: their targets are 1-D and 2-D."""

    wrap = False

    def layers(self, tree):
        return tuple(
            Layer(
                jax.tree_util.keystr(path, simple=True, separator="/"), Grid(leaf.shape[-1:], self.wrap), -1
            )
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            if leaf.ndim and jnp.issubdtype(leaf.dtype, jnp.floating)
        )


class Tori(LastAxis):
    wrap = True


# Annotated as Optax's: it is by the annotation that a test knows whether a schedule is accepted.
def lgnn_sgd(learning_rate: optax.ScalarOrSchedule, sigma: optax.ScalarOrSchedule = 0.5):
    return optax.chain(lgnn(sigma, layout=LastAxis()), optax.sgd(learning_rate, momentum=0.9))


def lgnn_adamw(learning_rate: optax.ScalarOrSchedule, sigma: optax.ScalarOrSchedule = 0.5):
    return optax.chain(lgnn(sigma, layout=LastAxis()), optax.adamw(learning_rate))


def heat_sgd(learning_rate: optax.ScalarOrSchedule, sigma: optax.ScalarOrSchedule = 1.0):
    tx = lgnn(sigma, layout=LastAxis(), window=HeatKernel())
    return optax.chain(tx, optax.sgd(learning_rate, momentum=0.9))


def wide_sgd(learning_rate: optax.ScalarOrSchedule, sigma: optax.ScalarOrSchedule = 0.5):
    tx = lgnn(sigma, layout=Tori(), window=Window(5))
    return optax.chain(tx, optax.sgd(learning_rate, momentum=0.9))


def float32_sgd(learning_rate: optax.ScalarOrSchedule):
    """Wrong on purpose: what is smoothed in float32 stays in float32."""
    tx = lgnn(layout=LastAxis())

    def update(updates, state, params=None, **extra_args):
        updates, state = tx.update(updates, state, params, **extra_args)
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), updates)
        return wide, state

    kept = optax.GradientTransformationExtraArgs(tx.init, update)
    return optax.chain(kept, optax.sgd(learning_rate, momentum=0.9))


FACTORIES = {f.__name__: f for f in (lgnn_sgd, lgnn_adamw, heat_sgd, wide_sgd, float32_sgd)}

# Momentum SGD and AdamW converge at the learning rates of Optax's own cases: smoothing is symmetric with
# eigenvalues between 0.37 (the heat kernel on two units) and 1, so nothing becomes steeper than Rosenbrock's
# 1002 at its minimum (below 2 (1 + 0.9) / 1e-3), and what is flat becomes at most 1 / 0.37 times flatter.
# The schedule passes through all its widths within the 10,000 steps and ends at the identity.
CASES = {
    "sgd": {"opt_name": "lgnn_sgd", "opt_kwargs": {"learning_rate": 1e-3}},
    "adamw": {"opt_name": "lgnn_adamw", "opt_kwargs": {"learning_rate": 1e-1}},
    "scheduled": {
        "opt_name": "lgnn_sgd",
        "opt_kwargs": {"learning_rate": 1e-3, "sigma": decreasing_sigma(0.8, 10, 500)},
    },
    "heat": {"opt_name": "heat_sgd", "opt_kwargs": {"learning_rate": 1e-3}},
    "wide": {"opt_name": "wide_sgd", "opt_kwargs": {"learning_rate": 1e-3}},
    "float32": {"opt_name": "float32_sgd", "opt_kwargs": {"learning_rate": 1e-3}},
}

# Which module, which class of it, which tables, and what else our cases need there.
SUITES = {
    "contrib": (
        "optax.contrib._common_test",
        "ContribTest",
        ("_MAIN_OPTIMIZERS_UNDER_TEST", "_ALL_OPTIMIZERS_UNDER_TEST"),
        {"wrapper_name": None, "wrapper_kwargs": None},
    ),
    "alias": ("optax._src.alias_test", "AliasTest", ("_OPTIMIZERS_UNDER_TEST",), {}),
}


class Missing(Exception):
    """The installed Optax does not have what a suite consists of."""


class OursFirst:
    """A module that also has our factories."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return FACTORIES[name] if name in FACTORIES else getattr(self._module, name)


def load(suite, names):
    """The suite's test class, from a private copy of its module that has the named cases for tables."""
    origin, name, tables, others = SUITES[suite]
    try:
        spec = importlib.util.find_spec(origin)  # Finds the file without running it.
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.has_location:
        raise Missing(f"Optax {optax.__version__} does not ship {origin}")
    tree = ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"), spec.origin)
    at = [i for i, node in enumerate(tree.body) if isinstance(node, ast.ClassDef) and node.name == name]
    if len(at) != 1:
        raise Missing(f"{origin} of Optax {optax.__version__} has no class {name}")
    module = types.ModuleType(f"_private_{suite}_test")
    sys.modules[module.__name__] = module

    def run(nodes):
        exec(compile(ast.Module(nodes, []), spec.origin, "exec"), module.__dict__)

    try:
        run(tree.body[: at[0]])
    except ImportError as error:  # scikit-learn, say, which Optax itself does not need.
        raise Missing(f"{origin} of Optax {optax.__version__} does not import: {error}") from error
    absent = [each for each in (*tables, "alias") if not hasattr(module, each)]
    if absent:
        raise Missing(f"{origin} of Optax {optax.__version__} has no {', '.join(absent)}")
    for table in tables:
        setattr(module, table, tuple(CASES[case] | others for case in names))
    module.alias = OursFirst(module.alias)  # Both modules look factories up here.
    run(tree.body[at[0] :])
    return getattr(module, name)


class Outcomes(unittest.TestResult):
    """Per test: passed, skipped or failed, and why; a test is as good as the worst of its parts."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def _note(self, test, outcome, reason):
        test = getattr(test, "test_case", test)  # Of a subTest, the test.
        if self.of.get(str(test), ("passed",))[0] != "failed":
            self.of[str(test)] = (outcome, reason)

    def startTest(self, test):
        super().startTest(test)
        self._note(test, "passed", "")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failed", self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "failed", self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", (self.failures + self.errors)[-1][1] + str(err[1]))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("cases", nargs="+", choices=CASES)
    options = parser.parse_args(arguments)
    try:
        suite = load(options.suite, options.cases)
    except Missing as missing:
        print(json.dumps({"missing": str(missing)}))
        return
    absl_flags = importlib.import_module("absl.flags")
    absl_flags.FLAGS(["conformance"])  # Chex's variants, of older versions of Optax, read some.
    outcomes = Outcomes()
    for method in unittest.defaultTestLoader.getTestCaseNames(suite):
        if not method.startswith("test_explicit_dtype"):  # Of Optax's Adam and SGD, not from the tables.
            suite(method).run(outcomes)
    print(json.dumps({"devices": jax.device_count(), "outcomes": outcomes.of}))


if __name__ == "__main__":
    main()
