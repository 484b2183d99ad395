"""A published model as its authors lay it out, with small random weights.

python -m tests.pipelines.poke.published_layout FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from pipelines.poke import checkpoint
from pipelines.poke.build import build_model
from tests.pipelines.poke import tiny

SETTINGS = """
general: {experiment: fixed_length_model, seed: 42}
data:
  dataset: PlantDataset
  spatial_size: !!python/tuple [32, 32]
  poke_size: 3
  max_frames: 4
  subsample_step: 2
architecture: {layers: [8, 8], nf_deep: 8, poke_every_t: true, use_skip_model: true}
training: {tau: [0.01, 0.025, 0.05], batch_size: 9}
gan: {n_layers: 3}
gan_temp: {patch_temp_disc: false}
"""


def published_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published state dict from ours: the inverse of checkpoint.model_state."""
    names = {"image_encoder.": "shape_enc.", "cells.": "fusion_block.cells."}
    names |= {"poke_encoder.blocks.": "dynamics_enc.model.", "poke_encoder.": "dynamics_enc."}
    names |= {"decoder.to_image.": "dec.out_conv.conv.", "decoder.": "dec."}
    found = {}
    for key, value in state.items():
        old = next(each for each in names if key.startswith(each))
        theirs = names[old] + key.removeprefix(old).replace("shortcut", "res_conv")
        if "_state." not in theirs and "from_input" not in theirs:
            found[theirs.replace("upsample", "up_gate")] = value
    for cell in {key.split(".")[1] for key in state if key.startswith("cells.")}:
        for gate in ("reset", "update", "out"):
            for leaf in ("weight", "bias"):
                key = f"fusion_block.cells.{cell}.{gate}_gate.{leaf}"
                found[key] = checkpoint.published_entry(state, key)
    return found


def write_model(home: Path) -> Path:
    """A published folder with two checkpoints, of which the newest counts."""
    torch.manual_seed(1)
    (home / "ckpt").mkdir(parents=True)
    (home / "config").mkdir()
    (home / "config" / "config.yaml").write_text(SETTINGS)
    for iteration in (9000, 11000):
        state = published_names(build_model(tiny.config()).state_dict())
        state = {f"module.{key}": value for key, value in state.items()}
        content = {"model": state, "optimizer_dis": {"state": {}}, "optimizer_dyn": {"state": {}}}
        torch.save(content, home / "ckpt" / f"reg_ckpt_checkpoint_{iteration}.pt")
    return home


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
