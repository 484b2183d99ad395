"""The published folders of this family: which files there are, and what their settings say.

A model is three folders (spec: cinn, 2.8), found from any of them or from one above them:
  config_stage2.yaml, cINN.pth                  the flow; its yaml names the other two
  config_stage1.yaml, *_GEN.pth, *_ENC.pth      the video autoencoder
  config_stage2_AE.yaml, [Ee]ncoder_stage2.pth  the image encoder
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.training.published import find_weights, read_settings

STAGE1_YAML, AE_YAML, STAGE2_YAML = (
    "config_stage1.yaml",
    "config_stage2_AE.yaml",
    "config_stage2.yaml",
)
_WORDS = {
    STAGE1_YAML: "the video autoencoder (stage 1)",
    AE_YAML: "the image autoencoder",
    STAGE2_YAML: "the flow",
}
_CROPPED = ("landscape", "dtdb")  # trained on random crops from frames this much larger
_CROP_MARGIN_PX = 16

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A published folder: its settings (empty without a yaml), and its files of weights by role."""

    folder: Path
    settings: Settings
    files: Mapping[str, Path]


@dataclass(frozen=True)
class PublishedModel:
    """The parts that were found; a whole model has all three."""

    stage1: Part | None = None
    autoencoder: Part | None = None
    flow: Part | None = None


def find_model(path: Path) -> PublishedModel:
    """What is published in a folder, or in the folder of a file.

    Raises UserError when there is nothing, when several models are there, or a part is missing.
    """
    folder = path.parent if path.is_file() else path
    found = _folders(folder, STAGE2_YAML)
    if len(found) > 1:
        raise _several(folder, found)
    if found:
        return _whole_model(found[0], folder)
    for name, read in ((STAGE1_YAML, _stage1_part), (AE_YAML, _autoencoder_part)):
        parts = _folders(folder, name)
        if len(parts) > 1:
            raise _several(folder, parts)
        if parts:
            part = read(parts[0], {})
            return (
                PublishedModel(stage1=part)
                if name == STAGE1_YAML
                else PublishedModel(autoencoder=part)
            )
    raise UserError(
        "no published cinn model here",
        {
            "looked in": folder,
            "expected": ", ".join(_WORDS),
            "to fix": "give the folder that holds stage1, stage2 and the image autoencoder",
        },
        EXIT_NO_DATA,
    )


def _whole_model(folder: Path, root: Path) -> PublishedModel:
    settings = read_settings(folder / STAGE2_YAML)
    flow = Part(folder, settings, {"flow": _require(folder, ("cINN", "checkpoint_best_val"))})
    first, image = (
        _section(settings, "First_stage_model"),
        _section(settings, "Conditioning_Model"),
    )
    return PublishedModel(
        stage1=_stage1_part(_part_folder(root, folder, STAGE1_YAML, first), first),
        autoencoder=_autoencoder_part(_part_folder(root, folder, AE_YAML, image), image),
        flow=flow,
    )


def _stage1_part(folder: Path, named: Settings) -> Part:
    """named: what the flow's yaml says of it, checkpoint_decoder and checkpoint_encoder."""
    decoder = (str(named.get("checkpoint_decoder", "")), "best_PFVD_GEN", "latest_checkpoint_GEN")
    encoder = (str(named.get("checkpoint_encoder", "")), "best_PFVD_ENC", "latest_checkpoint_ENC")
    files = {"decoder": _require(folder, decoder)}
    optional = {
        "encoder": encoder,
        "temporal_discriminator": ("latest_checkpoint_DISC_t",),
        "patch_discriminator": ("latest_checkpoint_DISC_s",),
    }
    for role, stems in optional.items():
        if found := find_weights(folder, [stem for stem in stems if stem]):
            files[role] = found
    return Part(folder, read_settings(folder / STAGE1_YAML), files)


def _autoencoder_part(folder: Path, named: Settings) -> Part:
    stems = (str(named.get("checkpoint_name", "")), "Encoder_stage2")
    yaml_path = folder / AE_YAML
    settings = read_settings(yaml_path) if yaml_path.is_file() else {}
    return Part(folder, settings, {"encoder": _require(folder, stems)})


def _part_folder(root: Path, flow_folder: Path, yaml_name: str, named: Settings) -> Path:
    """The folder of another part: the one that the flow's yaml means, or the only one there is."""
    stems = ("Encoder_stage2", str(named.get("checkpoint_name", "")))
    for base in (root, flow_folder.parent):  # further up there are other models
        found = _folders(base, yaml_name)
        if not found and yaml_name == AE_YAML:  # its yaml adds nothing that the weights do not say
            found = [
                each for each in _subfolders(base) if find_weights(each, [s for s in stems if s])
            ]
        if len(found) == 1:
            return found[0]
        if found:
            return _best_match(base, found, named)
    raise UserError(
        f"{_WORDS[yaml_name]} of this model is missing",
        {
            "looked in": root,
            "no folder has": yaml_name,
            "named by": flow_folder / STAGE2_YAML,
            "to fix": "put the folder beside that of the flow, as it was published",
        },
        EXIT_NO_DATA,
    )


def _best_match(base: Path, found: Sequence[Path], named: Settings) -> Path:
    """Of several folders the one whose path ends most like the one that the yaml names."""
    text = f"{named.get('model_path', '')}/{named.get('model_name', '')}"
    wanted = [part for part in PurePosixPath(text).parts if part not in ("/", ".", "..")]

    def agreement(folder: Path) -> int:
        pairs = zip(reversed(folder.parts), reversed(wanted), strict=False)
        return next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), len(wanted))

    ranked = sorted(found, key=agreement, reverse=True)
    if agreement(ranked[0]) == agreement(ranked[1]):
        raise _several(base, found)
    return ranked[0]


def _require(folder: Path, stems: Sequence[str]) -> Path:
    stems = [stem for stem in stems if stem]
    found = find_weights(folder, stems)
    if found is None:
        raise UserError(
            f"no weights '{stems[0]}' in a published folder",
            {
                "looked in": folder,
                "tried": ", ".join(f"{stem}.pth" for stem in stems) + ", .pth.tar",
                "to fix": "download the folder again",
            },
            EXIT_NO_DATA,
        )
    return found


def _folders(root: Path, yaml_name: str) -> list[Path]:
    return sorted(path.parent for path in root.rglob(yaml_name))


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in (root, *root.rglob("*")) if path.is_dir())


def _several(folder: Path, found: Sequence[Path]) -> UserError:
    return UserError(
        f"{len(found)} published models are here, one can be imported at a time",
        {
            "looked in": folder,
            "found": ", ".join(str(path.relative_to(folder)) for path in found[:6]),
            "to fix": f"name one: i2v import cinn {found[0]}",
        },
        EXIT_USAGE,
    )


# What the settings say, in our words


def stage1_settings(part: Part) -> dict[str, Any]:
    """Content of Stage1Config."""
    settings = part.settings
    encoder, decoder = _section(settings, "Encoder"), _section(settings, "Decoder")
    temporal, patch = (
        _section(settings, f"Discriminator_{name}") for name in ("Temporal", "Patch")
    )
    space = decoder.get("upsample_s", (2, 1))
    found = {
        "size_px": _section(settings, "Data").get("img_size", 32 * prod(space)),
        "num_frames": 8 * prod(decoder.get("upsample_t", (2, 1))),
        "code_size": decoder.get("z_dim"),
        "encoder_channels": encoder.get("channels"),
        "encoder_stride_space": encoder.get("stride_s"),
        "encoder_stride_time": encoder.get("stride_t"),
        "decoder_width": decoder.get("channel_factor"),
        "decoder_upsample_space": space,
        "decoder_upsample_time": decoder.get("upsample_t"),
        "temporal_channels": temporal.get("channels"),
        "temporal_stride_space": temporal.get("stride_s"),
        "patch_width": patch.get("ndf"),
    }
    return _given(found) | _stage1_training(settings)


def _stage1_training(settings: Settings) -> dict[str, Any]:
    training = _section(settings, "Training")
    names = {
        "temporal_window": "subsample_length",
        "weight_perceptual": "w_percep",
        "weight_reconstruction": "w_recon",
        "weight_kl": "w_kl",
        "weight_gan_temporal": "w_coup_t",
        "weight_feature_matching": "w_fmap_t",
        "weight_gradient_penalty": "w_GP",
        "warmup_epochs": "pretrain",
        "learning_rate_decay": "lr_gamma",
        "batch_size": "bs",
        "epochs": "n_epochs",
    }
    adam = {"beta1": 0.5, "beta2": 0.9}
    return {
        **_renamed(training, names),
        "clips_per_video": _repeats(settings),
        "optimizer": adam
        | _renamed(training, {"learning_rate": "lr", "weight_decay": "weight_decay"}),
        "augment": _augmentation(settings),
    }


def autoencoder_settings(part: Part) -> dict[str, Any]:
    """Content of AutoencoderConfig, but for what the weights say."""
    training = _section(part.settings, "Training")
    names = {
        "weight_kl": "w_kl",
        "warmup_epochs": "pretrain",
        "batch_size": "bs",
        "epochs": "n_epochs",
    }
    return {
        **_renamed(training, names),
        "optimizer": _renamed(training, {"learning_rate": "lr", "weight_decay": "weight_decay"}),
        "images_per_video": _repeats(part.settings),
        "augment": _augmentation(part.settings),
    }


def image_size_px(part: Part) -> int:
    """Height and width of the images that an image autoencoder takes."""
    return int(_section(part.settings, "AE").get("in_size", 64))


def flow_settings(part: Part, *, code_size: int) -> dict[str, Any]:
    """Content of FlowConfig."""
    flow, training = _section(part.settings, "Flow"), _section(part.settings, "Training")
    names = {
        "decay_every_epochs": "step_size",
        "decay_factor": "gamma",
        "batch_size": "bs",
        "epochs": "n_epochs",
    }
    adam = {
        "learning_rate": "lr",
        "beta1": "beta1",
        "beta2": "beta2",
        "amsgrad": "amsgrad",
        "weight_decay": "weight_decay",
    }
    return {
        **_renamed(flow, {"num_flows": "n_flows", "hidden_depth": "flow_hidden_depth"}),
        "hidden_width": int(flow.get("flow_mid_channels_factor", 8)) * code_size,
        "is_controlled": bool(training.get("control", False)),
        **_renamed(training, names),
        "optimizer": _renamed(training, adam),
        "clips_per_video": _repeats(part.settings),
        "augment": _augmentation(part.settings),
    }


def data_settings(part: Part) -> dict[str, Any]:
    """Content of DataConfig: which of our datasets the published name means."""
    data = _section(part.settings, "Data")
    name, _, texture = str(data.get("dataset", "")).lower().partition("_")
    texture = str(data.get("texture") or texture)
    found: dict[str, Any] = {"dataset": name} if name else {}
    if texture:
        found["include"] = [f"{texture}/*"]
    return found


def _augmentation(settings: Settings) -> dict[str, Any]:
    data = _section(settings, "Data")
    names = {name: name for name in ("brightness", "contrast", "saturation", "hue")}
    found = _renamed(_section(data, "Augmentation"), {**names, "horizontal_flip": "prob_hflip"})
    if str(data.get("dataset", "")).lower().startswith(_CROPPED):
        found["crop_margin_px"] = _CROP_MARGIN_PX
    return found


def _repeats(settings: Settings) -> int:
    return int(_section(settings, "Data").get("iter_train") or 1)


def _section(settings: Settings, name: str) -> Settings:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _renamed(section: Settings, names: Mapping[str, str]) -> dict[str, Any]:
    """Our name -> the value under their name, for those that are there."""
    return _given({ours: section.get(theirs) for ours, theirs in names.items()})


def _given(values: Settings) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
