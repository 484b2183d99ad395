"""Training of the three stages (spec: cinn, 3): what each stage is made of, and its step.

The arithmetic of a step is in steps.py, the way from the first step to the last in
pipelines.training.course.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pipelines.cinn import preview, sample, scores
from pipelines.cinn.augment import augment, draw_augmentation
from pipelines.cinn.config import (
    FIXED_SETTINGS,
    FREE_SETTINGS,
    AugmentConfig,
    FlowConfig,
    TrainRequest,
)
from pipelines.cinn.encoder import sample_code
from pipelines.cinn.endpoint import clips_with_endpoints, require_endpoints
from pipelines.cinn.frozen import FAMILY, keep_inputs, with_earlier_settings
from pipelines.cinn.inference import Model, condition
from pipelines.cinn.networks import build_autoencoder, build_flow, build_stage1
from pipelines.cinn.steps import (
    AutoencoderOptimizers,
    Log,
    Perceptual,
    Stage1Optimizers,
    autoencoder_step,
    flow_step,
    stage1_step,
)
from pipelines.cinn.validation import (
    HeldOut,
    as_clips,
    validate_autoencoder,
    validate_flow,
    validate_stage1,
)
from pipelines.clips.batches import training_batches
from pipelines.clips.published import last_digit, published_clips
from pipelines.clips.training_data import TrainingData, open_training_data
from pipelines.events import Work
from pipelines.features.perceptual import build_perceptual
from pipelines.nn.whole_batch import mean_over_parts, normal_rows
from pipelines.training.checkpoint import TrainState
from pipelines.training.course import Course, train_in_run
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.optim import (
    Plateau,
    build_adam,
    exponential_rate,
    set_learning_rate,
    stepped_rate,
)

_SMALLEST_RATE = 1e-8

Batch: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""Stored frames, uint8 B T H W C, or those as `frames` beside `endpoint`, B 3."""


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a stage into request.run_dir, or go on with what is there."""
    stages = {"1": _train_stage1, "ae": _train_autoencoder, "2": _train_flow}
    request = with_earlier_settings(request)
    return train_in_run(
        request,
        work,
        stages[request.stage],
        family=FAMILY,
        fixed=FIXED_SETTINGS,
        free=FREE_SETTINGS,
    )


def _train_stage1(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    """Video autoencoder: encoder and decoder against two discriminators."""
    config = request.config.stage1
    data = _open_data(request, config.augment, config.num_frames + 1, config.clips_per_video, work)
    with seeded_initialisation(request.config.train.seed, "stage 1"):
        networks = build_stage1(config)
    for network in vars(networks).values():
        network.to(device)
    optimizers = Stage1Optimizers(
        generator=build_adam([networks.encoder, networks.decoder], config.optimizer),
        temporal=build_adam([networks.temporal_discriminator], config.optimizer),
        patch=build_adam([networks.patch_discriminator], config.optimizer),
    )
    state = TrainState(dict(vars(networks)), dict(vars(optimizers)), _generators(request))
    training = _Training(request, data, state, config.batch_size, config.epochs, device, work)
    perceptual = _perceptual(request, device)
    held_out = training.held_out(config.num_frames + 1)

    def step(frames: Tensor) -> Log:
        epoch = training.epoch
        rate, decay = config.optimizer.learning_rate, config.learning_rate_decay
        set_learning_rate(optimizers.generator, exponential_rate(rate, decay=decay, epoch=epoch))
        # as published, the discriminators' rates start to fall when their training starts
        late_rate = exponential_rate(rate, decay=decay, epoch=epoch - config.warmup_epochs)
        set_learning_rate(optimizers.temporal, late_rate)
        set_learning_rate(optimizers.patch, late_rate)
        return stage1_step(
            networks,
            optimizers,
            training.augmented(frames, config.augment),
            config=config,
            adversarial=epoch >= config.warmup_epochs,
            perceptual=perceptual,
            generator=state.generators["step"],
            log_quality=training.is_logged_step,
        )

    def validate() -> dict[str, float]:
        return validate_stage1(networks, held_out, perceptual)

    def score() -> dict[str, Any]:
        return scores.score_stage1(config.score, networks, held_out)

    scores.require_metric(config.score, device)
    if training.run(step, validate, score if config.score != scores.NONE else None):
        preview.write_reconstructions(request.run_dir, networks, held_out, work)
    return training.course.result()


def _train_autoencoder(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    """Image autoencoder, whose encoder's embedding will condition the flow."""
    config = request.config.ae
    data = _open_data(request, config.augment, 1, config.images_per_video, work)
    with seeded_initialisation(request.config.train.seed, "stage ae"):
        networks = build_autoencoder(config, request.config.stage1.size_px)
    for network in vars(networks).values():
        network.to(device)
    optimizers = AutoencoderOptimizers(
        autoencoder=build_adam([networks.encoder, networks.decoder], config.optimizer),
        discriminator=build_adam([networks.discriminator], config.optimizer),
    )
    state = TrainState(
        dict(vars(networks)), dict(vars(optimizers)), _generators(request), asdict(Plateau())
    )
    training = _Training(request, data, state, config.batch_size, config.epochs, device, work)
    perceptual = _perceptual(request, device)
    held_out = training.held_out(1)

    def step(frames: Tensor) -> Log:
        plateau = Plateau(**state.scalars)
        rate = max(config.optimizer.learning_rate * plateau.scale, _SMALLEST_RATE)
        for optimizer in vars(optimizers).values():
            set_learning_rate(optimizer, rate)
        log = autoencoder_step(
            networks,
            optimizers,
            training.augmented(frames, config.augment)[:, 0],
            config=config,
            adversarial=training.epoch >= config.warmup_epochs,
            perceptual=perceptual,
        )
        if training.ends_epoch:  # as published, judged by the last batch of the epoch alone
            error = float(mean_over_parts(log["reconstruction"]))
            factor = config.plateau_factor
            plateau = plateau.after_epoch(error, factor=factor, patience=config.plateau_patience)
            state.scalars = asdict(plateau)
        return log

    def validate() -> dict[str, float]:
        return validate_autoencoder(networks, held_out, perceptual)

    if training.run(step, validate):
        preview.write_images(request.run_dir, networks, held_out, work)
    return training.course.result()


def _train_flow(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    """Flow between the motion codes of the frozen stage 1 and residuals."""
    config, stage1 = request.config.stage2, request.config.stage1
    data = _open_data(request, config.augment, stage1.num_frames + 1, config.clips_per_video, work)
    kept = keep_inputs(request, work)
    encoder = sample.load_encoder(request.config, kept["stage1"], device)
    embedder = sample.load_embedder(request.config, kept["ae"], device)
    with seeded_initialisation(request.config.train.seed, "stage 2"):
        flow = build_flow(config, stage1.code_size, request.config.ae.embedding_size).to(device)
    optimizer = build_adam([flow], config.optimizer)
    state = TrainState({"flow": flow}, {"flow": optimizer}, _generators(request))
    training = _Training(request, data, state, config.batch_size, config.epochs, device, work)
    held_out = training.held_out(stage1.num_frames + 1)
    changes = config.augment
    if config.is_controlled:
        require_endpoints(data.videos, _rows_used(request, data), config)
        # a mirrored clip would not end where its endpoint says
        changes = changes.model_copy(update={"horizontal_flip": 0.0})

    def step(batch: Batch) -> Log:
        frames, endpoint = _parts(batch)
        rate = stepped_rate(
            config.optimizer.learning_rate,
            factor=config.decay_factor,
            every_epochs=config.decay_every_epochs,
            epoch=training.epoch,
        )
        set_learning_rate(optimizer, rate)
        clip = training.augmented(frames, changes)
        with torch.no_grad():
            mean, log_variance = encoder(clip[:, 1:])
            noise = normal_rows(mean.shape, state.generators["step"]).to(mean)
            code = sample_code(mean, log_variance, noise)
            embedding = condition(embedder, clip[:, 0], endpoint)
        return flow_step(flow, optimizer, code, embedding, generator=state.generators["reference"])

    def validate() -> dict[str, float]:
        return validate_flow(flow, encoder, embedder, held_out)

    def score() -> dict[str, Any]:
        decoder = sample.load_decoder(request.config, kept["stage1"], device)
        return scores.score_flow(config.score, Model(decoder, flow, embedder), held_out)

    scores.require_metric(config.score, device)
    if training.run(step, validate, score if config.score != scores.NONE else None):
        model = sample.load(request.run_dir, device, warn=work.warning).model
        preview.write_samples(request.run_dir, model, held_out, work)
    return training.course.result()


@dataclass
class _Training:
    """A stage being trained: its data as its steps see them, and its course."""

    request: TrainRequest
    data: TrainingData
    state: TrainState
    batch_size: int
    epochs: int
    device: torch.device
    work: Work

    def __post_init__(self) -> None:
        self.course = Course(
            FAMILY,
            self.request,
            self.data.sampler,
            self.state,
            self.batch_size,
            self.epochs,
            self.device,
            self.work,
        )
        self.course.start()

    @property
    def epoch(self) -> int:
        """The epoch that the step at hand begins in, from 0."""
        return self.course.epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether the step at hand takes the last clip of its epoch."""
        return self.course.epoch_of(self.state.step + 1) > self.epoch

    @property
    def is_logged_step(self) -> bool:
        """Whether the scalars are recorded after the step at hand; the first one counts too.

        It shows a discriminator its first images, which settle where its activations lie.
        """
        step = self.state.step + 1
        return step == 1 or step % self.request.config.train.log_every == 0

    def held_out(self, num_frames: int) -> HeldOut:
        """The held-out clips, as this stage sees them."""
        config = self.request.config
        return HeldOut(
            self.data,
            num_frames,
            config.stage1.size_px,
            self.device,
            config.train.seed,
            self.control,
        )

    @property
    def control(self) -> FlowConfig | None:
        """The settings of a flow that is told where clips end."""
        config = self.request.config.stage2
        return config if self.request.stage == "2" and config.is_controlled else None

    def augmented(self, frames: Tensor, config: AugmentConfig) -> Tensor:
        """Augmented clips B T 3 S S in [-1, 1] from stored ones, uint8 B T H W C."""
        draws = draw_augmentation(config, len(frames), self.state.generators["augmentation"])
        return augment(as_clips(frames), self.request.config.stage1.size_px, config, draws)

    def run(
        self,
        step: Callable[[Any], Log],
        validate: Callable[[], Mapping[str, float]],
        score: Callable[[], Mapping[str, Any]] | None = None,
    ) -> bool:
        """Train to the end; validate and save on the way. False when nothing was left to do.

        score: what decides which checkpoint is best (checkpoint.by_score).
        """

        def recorded(_: Mapping[str, float]) -> Mapping[str, Any]:
            assert score is not None
            if scored := score():
                self.work.metric(self.state.step, {f"val_{scored['metric']}": scored["value"]})
            return scored

        return self.course.run(self._batches, step, validate, score=recorded if score else None)

    def _batches(self, batch_size: int, first_batch: int) -> Generator[Any]:
        place = {"batch_size": batch_size, "first_batch": first_batch}
        if self.control is not None:
            return clips_with_endpoints(self.data, self.control, **place)
        return training_batches(self.data.videos, self.data.sampler, **place)


def _open_data(
    request: TrainRequest, augmentation: AugmentConfig, num_frames: int, repeats: int, work: Work
) -> TrainingData:
    size_px = request.config.stage1.size_px
    return open_training_data(
        request.data_root,
        request.config.data,
        sizes_px=(size_px, size_px + augmentation.crop_margin_px),
        num_frames=num_frames,
        repeats=_repeats(request, repeats),
        seed=request.config.train.seed,
        work=work,
    )


def _repeats(request: TrainRequest, repeats: int) -> int | Callable[[str], int]:
    """Times a video occurs in an epoch; of iPER, as published, more often for a later action."""
    published = published_clips(FAMILY, request.config.data.dataset)
    if published is None or not published.is_repeated_by_digit:
        return repeats
    return lambda video_id: repeats * last_digit(video_id)


def _generators(request: TrainRequest) -> dict[str, torch.Generator]:
    """One per meaning, on the CPU: the draws are then the same on every device."""
    meanings = ("augmentation", "step", "reference")
    return {each: torch_generator(request.config.train.seed, each) for each in meanings}


def _perceptual(request: TrainRequest, device: torch.device) -> Perceptual:
    backbone = request.config.perceptual.backbone
    weights_dir = request.data_root / "weights" / "vgg16"
    return build_perceptual(backbone, weights_dir=weights_dir).to(device)


def _parts(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Frames of a batch, and where its clips end, if it says so."""
    if isinstance(batch, Tensor):
        return batch, None
    return batch["frames"], batch["endpoint"]


def _rows_used(request: TrainRequest, data: TrainingData) -> list[int]:
    """Rows of the videos that are trained and validated on."""
    num_frames = request.config.stage1.num_frames + 1
    rows = data.videos.select("train", request.config.data.include, num_frames)
    return [*rows, *(clip.row for clip in data.validation)]
