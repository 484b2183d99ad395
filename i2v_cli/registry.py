"""What there is: verbs, families, datasets, metrics, environments. Data only, nothing is imported.

A row that no release has built yet has `is_built=False`; it is known, so that a misspelt or early
name gets a good answer, but it is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verb:
    """A command. module holds its function `run`; group is its heading in the help."""

    module: str
    about: str
    group: str
    is_built: bool = True


@dataclass(frozen=True)
class Target:
    """Something a worker can be asked to do, with the class of its request and its environment."""

    function: str
    request: str
    env: str


@dataclass(frozen=True)
class Family:
    """A model family: a package `pipelines.<name>` with config, networks, train, sample.

    config holds FamilyConfig, and FIXED_SETTINGS and FREE_SETTINGS, which say what a continued
    training may change; stages are the names that --stage takes, in the order of training, of which
    a model may have fewer: FamilyConfig then has a property `stages`.
    needs: stage -> the earlier stages it is built on; its request has a field <stage>_run for each.
    built_on: field of its train request -> the family of the run that it names.
    sample_inputs: what `i2v sample` is given beside the run, as one types it.
    backends: other programs behind `i2v sample --backend NAME`, which need no run.
    whole_stages: earlier stages whose runs can be sampled from too.
    """

    package: str
    about: str
    stages: tuple[str, ...]
    verbs: tuple[str, ...]
    env: str = "main"
    is_built: bool = True
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    built_on: Mapping[str, str] = field(default_factory=dict)
    sample_inputs: str = "--image FILE"
    whole_stages: tuple[str, ...] = ()
    backends: Mapping[str, Target] = field(default_factory=dict)

    def target(self, verb: str) -> Target:
        """The function and the request class behind a verb of this family."""
        if verb == "import":  # the same request for all of them
            function = f"{self.package}.checkpoint:import_published"
            return Target(function, "pipelines.training.config:ImportRequest", self.env)
        module = "train" if verb == "train" else "sample"
        return Target(
            f"{self.package}.{module}:{verb}",
            f"{self.package}.config:{verb.capitalize()}Request",
            self.env,
        )


@dataclass(frozen=True)
class Dataset:
    """A dataset: a module with SPEC and layout, and how it is got."""

    module: str
    about: str
    is_built: bool = True


@dataclass(frozen=True)
class Metric:
    """A metric: a module with `build`, whose result looks at videos and then has the numbers."""

    module: str
    about: str
    env: str = "main"
    is_built: bool = True


@dataclass(frozen=True)
class Environment:
    """An isolated environment. size_gb and minutes are what a first creation takes, roughly."""

    about: str
    size_gb: float
    minutes: float
    has_torch: bool = False


VERBS = {
    "demo": Verb("i2v_cli.commands.demo", "See the whole path work on generated data", "Start"),
    "download": Verb("i2v_cli.commands.download", "Get a dataset or published weights", "Data"),
    "extract-frames": Verb(
        "i2v_cli.commands.extract_frames", "Turn raw videos into packed frames for training", "Data"
    ),
    "estimate-flow": Verb(
        "i2v_cli.commands.estimate_flow", "Estimate optical flow between frames", "Data"
    ),
    "data": Verb("i2v_cli.commands.data", "List, check and look at prepared data", "Data"),
    "train": Verb("i2v_cli.commands.train", "Train a model family, stage by stage", "Model"),
    "sample": Verb("i2v_cli.commands.sample", "Animate still images with a trained model", "Model"),
    "transfer": Verb("i2v_cli.commands.transfer", "Move one video's motion to an image", "Model"),
    "import": Verb("i2v_cli.commands.import_", "Convert published checkpoints", "Model"),
    "export": Verb(
        "i2v_cli.commands.export", "Write a sampler other tools can run", "Model", False
    ),
    "eval": Verb("i2v_cli.commands.eval", "Measure generated videos", "Results"),
    "eval-fvd": Verb("i2v_cli.commands.eval_fvd", "The same as 'i2v eval fvd'", "Results"),
    "compare": Verb(
        "i2v_cli.commands.compare", "Compare what models put between two frames", "Results"
    ),
    "report": Verb("i2v_cli.commands.report", "Write a page with curves and videos", "Results"),
    "runs": Verb("i2v_cli.commands.runs", "List, show and remove runs", "Results"),
    "serve": Verb("i2v_cli.commands.serve", "Open the page for poking images", "Results"),
    "env": Verb("i2v_cli.commands.env", "Create, check and remove environments", "Set-up"),
}

FAMILIES = {
    "cinn": Family(
        "pipelines.cinn",
        "Stochastic video from one image by a conditional invertible network (cINN)",
        stages=("1", "ae", "2"),
        verbs=("train", "sample", "transfer", "import"),
        needs={"2": ("1", "ae")},
    ),
    "poke": Family(
        "pipelines.poke",
        "Video answering a poke at a pixel",
        ("1",),
        ("train", "sample", "import"),
    ),
    "behavior": Family(
        "pipelines.behavior",
        "Human behaviour sampled and transferred as poses",
        ("1", "2"),
        ("train", "sample", "transfer", "import"),
        needs={"2": ("1",)},
        sample_inputs="--target POSES",
        whole_stages=("1",),
    ),
    "shape-pose": Family(
        "pipelines.shape_pose",
        "Renders poses as images (VUNet)",
        ("1",),
        ("train", "import"),
    ),
    "fomm": Family(
        "pipelines.fomm",
        "First order motion model",
        ("1",),
        ("train", "transfer", "import"),
        sample_inputs="--source IMAGE --driving VIDEO",
        backends={
            "videos": Target(
                "pipelines.fomm.animation:animate", "pipelines.fomm.config:AnimateRequest", "main"
            )
        },
    ),
    "motion": Family(
        "pipelines.motion",
        "Generative motion of FOMM keypoints",
        ("1",),
        ("train", "sample"),
        sample_inputs="--start FILE --end FILE",
        built_on={"fomm_run": "fomm"},
    ),
    "inbetween": Family(
        "pipelines.inbetween",
        "Frames between a start and an end",
        ("1",),
        ("train", "sample"),
        sample_inputs="--start FILE --end FILE",
        backends={
            "tfhub": Target(
                "pipelines.inbetween.tfhub:sample", "pipelines.inbetween.config:HubRequest", "fvd"
            )
        },
    ),
}


def families_with(verb: str) -> list[str]:
    """Names of the families that a verb takes and that are there."""
    return [name for name, each in FAMILIES.items() if verb in each.verbs and each.is_built]


DATASETS = {
    "synthetic": Dataset(
        "pipelines.datasets.synthetic", "Generated videos with known flow, joints and labels"
    ),
    "custom": Dataset("pipelines.datasets.custom", "Any folder of videos, images or arrays"),
    **{
        name: Dataset(f"pipelines.datasets.{name}", about)
        for name, about in {
            "plants": "Poking Plants: houseplants moved by hand, 2021",
            "iper": "iPER: people turning and moving freely, 2019",
            "h36m": "Human3.6M: actors in a motion-capture room, 2014",
            "taichi": "TaiChi-HD: tai-chi clips from the web, 2019",
            "bair": "BAIR robot pushing, 2017",
            "landscape": "Sky time-lapse, 2018",
            "dtdb": "Dynamic textures: fire, clouds, vegetation, waterfall, 2018",
            "kth": "KTH actions, grey, 2004",
            "deepfashion": "DeepFashion: people in clothes, images, 2016",
            "market": "Market-1501: pedestrians, images, 2015",
        }.items()
    },
}

METRICS = {
    "psnr": Metric("pipelines.metrics.psnr", "Peak signal-to-noise ratio of frames, dB"),
    "ssim": Metric("pipelines.metrics.ssim", "Structural similarity of frames"),
    "l1": Metric("pipelines.metrics.l1", "Mean absolute difference of pixels"),
    "diversity": Metric("pipelines.metrics.diversity", "Distance between samples of one image"),
    "motion-energy": Metric(
        "pipelines.metrics.motion_energy", "How much pixels change from frame to frame"
    ),
    "frechet-embedded": Metric(
        "pipelines.metrics.frechet_embedded",
        "Frechet distance over the embedded backbone's frame features (neither FVD nor FID)",
    ),
    "fvd": Metric("pipelines.metrics.fvd", "Frechet video distance, PyTorch I3D"),
    "fvd-tf": Metric(
        "pipelines.metrics.fvd_tf", "Frechet video distance, published TF-Hub I3D", "fvd"
    ),
    "dtfvd": Metric("pipelines.metrics.dtfvd", "Frechet video distance for dynamic textures"),
    "fid": Metric("pipelines.metrics.fid", "Frechet inception distance of frames"),
    "lpips": Metric("pipelines.metrics.lpips", "Learned perceptual distance of frames"),
    "pose": Metric("pipelines.metrics.pose", "Numbers of a behavior or shape-pose run"),
    "poke": Metric("pipelines.metrics.poke", "How well pokes are followed, and their control"),
    "poke-simulator": Metric(
        "pipelines.metrics.poke_simulator", "A poke run against the simulator of generated plants"
    ),
}

ENVS = {
    "data": Environment("download and prepare data: ffmpeg, numpy, pillow", 0.3, 0.1),
    "main": Environment("train, sample, measure: torch", 6.0, 1, has_torch=True),
    "flow": Environment("estimate optical flow: torch, OpenCV", 6.0, 1, has_torch=True),
    "fvd": Environment("the published FVD: TensorFlow", 2.3, 0.6),
}

EXTRAS = {"cluster": "Ray and submitit, for --engine ray and slurm"}
"""What can be joined to an environment, from a lock of its own."""
