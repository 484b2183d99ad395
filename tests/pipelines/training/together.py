"""A process of a training of several, for tests: python -m tests.pipelines.training.together JOBS.

JOBS: JSON, a list of [train function, request class, request, port]; the variables RANK and
WORLD_SIZE say which process of how many this is.

Everything is computed in 64 bits. Sums over a batch in another order differ in their last bits, and
Adam makes a whole step of a gradient that is nothing but such bits, as that of a bias is that a
norm takes away again; in 64 bits they stay far below its epsilon.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

import numpy as np
import torch

from pipelines.engines.others import OtherWork, PartDone
from pipelines.events import Work


def main(text: str) -> None:
    torch.set_num_threads(1)
    _compute_in_64_bits()
    for target, request_class, fields, port in json.loads(text):
        os.environ["MASTER_PORT"] = str(port)
        request = _found(request_class).model_validate(fields)
        is_first = os.environ["RANK"] == "0"
        try:
            _found(target)(request, Work() if is_first else OtherWork())
        except PartDone:
            pass
        except Exception:
            print(f"== {request.run_dir}\n{traceback.format_exc()}", file=sys.stderr)


def _compute_in_64_bits() -> None:
    from_numpy = torch.from_numpy

    def wide_from_numpy(array: np.ndarray) -> torch.Tensor:
        return from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)

    torch.set_default_dtype(torch.float64)
    torch.from_numpy = wide_from_numpy
    torch.Tensor.float = torch.Tensor.double
    torch.float32 = torch.float64
    torch.backends.mkldnn.is_available = lambda: False  # its operators have no 64 bits


def _found(dotted: str) -> Any:
    module, name = dotted.split(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main(sys.argv[1])
