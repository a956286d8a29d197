"""Golden files, and how to write them anew.

    LGNN_REWRITE_PINS=1 python -m pytest -n 0 tests/pins_experiments -m "slow or not slow"

rewrites all of them from the code as it is (add a file's name for one; look at ``git diff`` afterwards). Without
the variable a file or a case that is not there is a failure. Digests of bits are kept by machine and versions
(:func:`fingerprint`): rewriting on another one adds its own. To compare bits where there are none yet, rewrite
with the code from before, and compare with the code from after.
"""

import functools
import hashlib
import json
import os
import pathlib
import platform

import jax
import jaxlib
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent / "golden"
REWRITE = os.environ.get("LGNN_REWRITE_PINS") == "1"
_HINT = "LGNN_REWRITE_PINS=1 writes it (tests/pins_experiments/golden.py)"


def same_text(name, found):
    """Compares a text with a golden file, byte for byte."""
    file = FOLDER / name
    if REWRITE:
        file.write_text(found)
    assert file.exists(), f"there is no golden file {name}; {_HINT}"
    assert found == file.read_text()


def wanted(name, case, found):
    """The golden value of a case, a plain one as ``found`` is; ``found`` itself when it is rewritten."""
    file = FOLDER / name
    content = json.loads(file.read_text()) if file.exists() else {}
    if REWRITE:
        content[case] = found
        file.write_text(_lines(content))
        return plain(found)
    assert file.exists(), f"there is no golden file {name}; {_HINT}"
    assert case in content, f"{name} has no case {case!r}; {_HINT}"
    return content[case]


def same(name, case, found):
    """Compares a plain value with that of a golden file."""
    assert plain(found) == wanted(name, case, found)


def exactly(name, cases):
    """Fails if a golden file has other cases than these; when it is rewritten, the others are dropped."""
    file = FOLDER / name
    content = json.loads(file.read_text())
    if REWRITE:
        content = {case: content[case] for case in cases if case in content}
        file.write_text(_lines(content))
    assert sorted(content) == sorted(cases)


def same_bits(name, case, digest):
    """Compares a digest with that of this machine and these versions; skips if there is none."""
    kept = json.loads((FOLDER / name).read_text()) if (FOLDER / name).exists() else {}
    if REWRITE:
        wanted(name, case, kept.get(case, {}) | {fingerprint(): digest})
        return
    assert case in kept, f"{name} has no case {case!r}; {_HINT}"
    if fingerprint() not in kept[case]:
        pytest.skip(f"no bits are known of this machine and these versions ({fingerprint()})")
    assert digest == kept[case][fingerprint()]


@functools.cache
def fingerprint():
    """What decides the order of sums: processor, cores, XLA's flags, versions."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    about = sorted({line for line in lines if line.startswith(("flags", "model name", "Features"))})
    about += [platform.machine(), str(os.cpu_count()), os.environ.get("XLA_FLAGS", "")]
    about += [jaxlib.__version__, str(jax.device_count()), jax.default_backend()]
    return f"jax {jax.__version__}, {hashlib.sha256(chr(10).join(about).encode()).hexdigest()[:8]}"


def plain(value):
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


def digits(value, count=6):
    """A float to so many significant digits."""
    return float(f"{value:.{count}g}")


def leaves(tree):
    """Leaves by their path, such as ``conv_0/kernel``."""
    return {
        "/".join(str(getattr(key, "key", key)) for key in path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _lines(content):
    """JSON with a line for every entry of a case."""
    parts = []
    for case, value in content.items():
        if isinstance(value, dict) and value:
            inside = ",\n".join(f"  {json.dumps(name)}: {json.dumps(item)}" for name, item in value.items())
            text = f"{{\n{inside}\n }}"
        elif isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(case)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
