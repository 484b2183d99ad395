"""What the command line imports stays free of numpy, torch and TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "scipy", "PIL", "torch", "torchvision", "tensorflow", "cv2", "h5py", "ffmpeg")

_LIGHT = (
    "pipelines/schema.py",
    "pipelines/events.py",
    "pipelines/files.py",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("pipelines/*/config.py")),
    "pipelines/datasets/fetch_config.py",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("i2v_cli/**/*.py")),
)
MODULES = [path.removesuffix(".py").replace("/", ".") for path in _LIGHT]
MODULES = [module for module in MODULES if not module.endswith(("__init__", "__main__"))]


def test_there_are_modules_to_test() -> None:
    assert {"pipelines.schema", "pipelines.cinn.config", "i2v_cli.app"} <= set(MODULES)


@pytest.mark.parametrize("part", ["pipelines", "i2v_cli"])
def test_light_modules_import_where_heavy_packages_cannot(part: str) -> None:
    """A heavy package is made impossible to import, so it makes no difference what is installed."""
    modules = [module for module in MODULES if module.startswith(part)]
    code = (
        f"import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({HEAVY}))\n"
        f"for module in {modules}: importlib.import_module(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
