"""Published models of the poke family on disk: where what lies, and what its settings say in our
words (spec: poke, 10 and 11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.training.published import read_settings

Settings = Mapping[str, Any]

_STEMS = {"model": "reg_ckpt", "patch": "disc_patch", "temporal": "disc_temp"}
_DATASETS = {
    "PlantDataset": "plants",
    "IperDataset": "iper",
    "TaichiDataset": "taichi",
    "Human36mDataset": "h36m",
}


@dataclass(frozen=True)
class PublishedModel:
    """A published model's folder. files: network -> its newest checkpoint."""

    folder: Path
    settings: Settings
    files: Mapping[str, Path]


def find_model(path: Path) -> PublishedModel:
    """The one model in a folder; or, of a file, what lies around it.

    Raises UserError when there is none, or several.
    """
    found = [path] if path.is_file() else sorted(path.rglob("reg_ckpt*.pt"))
    if not found:
        raise UserError(
            "no published poke model here",
            {
                "looked for": path / "**" / "reg_ckpt*.pt",
                "to fix": "unpack the model first, or give its folder: ckpt/ beside config/",
            },
            EXIT_NO_DATA,
        )
    homes = sorted({each.parent for each in found})
    if len(homes) > 1:
        raise UserError(
            f"{len(homes)} published models are here, one can be imported at a time",
            {
                "looked in": path,
                "found": ", ".join(str(home.relative_to(path)) for home in homes[:6]),
                "to fix": f"name one: i2v import poke {homes[0]}",
            },
            EXIT_USAGE,
        )
    files = {name: _newest(homes[0], stem) for name, stem in _STEMS.items()}
    files["model"] = path if path.is_file() else files["model"]
    there = {name: each for name, each in files.items() if each is not None}
    return PublishedModel(homes[0], read_settings(_settings_file(homes[0])), there)


def _newest(folder: Path, stem: str) -> Path | None:
    """The checkpoint of the highest iteration."""

    def iteration(path: Path) -> int:
        numbers = re.findall(r"\d+", path.stem)
        return int(numbers[-1]) if numbers else -1

    return max(folder.glob(f"{stem}*.pt"), key=iteration, default=None)


def _settings_file(folder: Path) -> Path:
    """The config.yaml beside or above the checkpoints."""
    for home in (folder, *list(folder.parents)[:3]):
        for candidate in (home / "config.yaml", home / "config" / "config.yaml"):
            if candidate.is_file():
                return candidate
        nested = sorted((home / "config").rglob("config.yaml"))
        if len(nested) == 1:
            return nested[0]
    raise UserError(
        "no settings beside the published weights",
        {"looked for": folder.parent / "config" / "config.yaml", "to fix": "unpack all of it"},
        EXIT_NO_DATA,
    )


def our_settings(settings: Settings) -> dict[str, Any]:
    """Content of FamilyConfig; what the published file leaves out has its default there."""
    data, training = _section(settings, "data"), _section(settings, "training")
    is_sequence = _section(settings, "general").get("experiment") == "sequence_poke_model"
    return _given(
        {
            "experiment": "sequence" if is_sequence else "fixed-length",
            "data": _given({"dataset": _DATASETS.get(str(data.get("dataset")))}),
            "clips": _clips(data),
            "poke": _poke(data),
            "model": _model(settings),
            "losses": _given(
                {
                    "perceptual": training.get("vgg_dyn_weight"),
                    "latent": training.get("latent_dynamics_weight"),
                    "single_stage": training.get("singlestage"),
                    "moves_decoder": training.get("decoder_update_tk"),
                    "static_epochs": training.get("stop_seq_stat") if is_sequence else None,
                }
            ),
            "patch": _patch(_section(settings, "gan")),
            "temporal": _temporal(_section(settings, "gan_temp")),
            "optimizer": _given({"learning_rate": training.get("lr")}) or None,
            "milestones": training.get("tau"),
            "milestone_factor": training.get("lr_reduce"),
            "decoder_rate_end": training.get("lr_dec_end_val"),
            "decoder_rate_steps": training.get("lr_dec_end_it"),
            "batch_size": training.get("batch_size"),
            "epochs": training.get("n_epochs"),
        }
    )


def _clips(data: Settings) -> dict[str, Any]:
    step = data.get("subsample_step")
    return _given({"num_frames": data.get("max_frames"), "frame_step": step})


def _poke(data: Settings) -> dict[str, Any]:
    keeps_patch = data.get("equal_poke_val")
    return _given(
        {
            "patch_px": None if data.get("poke_size") is None else int(data["poke_size"]),
            "max_pokes": data.get("n_pokes"),
            "keeps_flow_patch": None if keeps_patch is None else not keeps_patch,
            "crops_to_foreground": data.get("flow_weights"),
        }
    )


def _model(settings: Settings) -> dict[str, Any]:
    size = _section(settings, "data").get("spatial_size")
    network, training = _section(settings, "architecture"), _section(settings, "training")
    schedule = "every-step" if network.get("poke_every_t", True) else "once"
    if training.get("poke_jump"):
        schedule = "jump"
    elif network.get("poke_scale"):
        schedule = "linear"
    return _given(
        {
            "kind": "hierarchical" if network.get("use_skip_model", True) else "single-scale",
            "size_px": size[0] if isinstance(size, list | tuple) else size,
            "deep": network.get("nf_deep"),
            "smallest_px": network.get("min_spatial_size"),
            "widths": network.get("layers") or None,
            "norm": network.get("norm_layer"),
            "spectral_decoder": network.get("spectnorm_decoder"),
            "sees_image": network.get("poke_and_img"),
            "ignores_poke": network.get("zeroflow_baseline"),
            "num_cells": network.get("n_gru_layers"),
            "schedule": schedule,
            "resize": "opencv",
        }
    )


def _patch(gan: Settings) -> dict[str, Any]:
    return _given(
        {
            "start_step": gan.get("start_iteration"),
            "num_layers": gan.get("n_layers"),
            "num_deep": gan.get("deep_layers", 1) if gan.get("deep_disc") else None,
            "num_frames": gan.get("n_examples"),
            "weight": gan.get("gen_weight"),
            "feature_matching": gan.get("fmap_weight"),
            "gradient_penalty": gan.get("gp_weight"),
        }
    )


def _temporal(gan: Settings) -> dict[str, Any]:
    return _given(
        {
            "start_step": gan.get("start_iteration"),
            "is_per_frame": gan.get("patch_temp_disc"),
            "sees_poke": gan.get("conditional"),
            "weight": gan.get("gen_weight"),
            "feature_matching": gan.get("fmap_weight"),
            "gradient_penalty": gan.get("gp_weight"),
        }
    )


def _section(settings: Settings, name: str) -> Settings:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
