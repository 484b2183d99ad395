from __future__ import annotations

import torch
from torch import nn

from pipelines.fomm.folding import for_sampling
from pipelines.fomm.networks import build
from tests.pipelines.fomm import tiny


def test_networks_for_sampling_give_the_same_and_keep_no_weights_that_learn():
    torch.manual_seed(0)
    networks = build(tiny.config().model)
    detector, generator = networks.keypoint_detector.eval(), networks.generator.eval()
    for network in (detector, generator):
        for norm in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    source, driving = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        places = detector(source), detector(driving)
        expected = generator(source, *places)
        for_sampling(detector)
        made = for_sampling(generator)(source, detector(source), detector(driving))
    assert made.frames.std() > 0.01
    for found, wanted in (
        (made.frames, expected.frames),
        (made.motion.deformation, expected.motion.deformation),
        (made.motion.mask, expected.motion.mask),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    kept = [*detector.parameters(), *generator.parameters()]
    assert not any(each.requires_grad or each.dim() == 4 for each in kept)
