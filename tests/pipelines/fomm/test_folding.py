from __future__ import annotations

import torch
from torch import nn

from pipelines.fomm.folding import for_sampling
from pipelines.fomm.networks import build
from tests.pipelines.fomm import tiny


def test_networks_for_sampling_give_the_same_and_leave_the_others_as_they_are():
    torch.manual_seed(0)
    networks = build(tiny.config().model)
    detector, generator = networks.keypoint_detector.eval(), networks.generator.eval()
    for network in (detector, generator):
        for norm in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    source, driving = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        places = detector(source), detector(driving)
        expected = generator(source, *places)
        folded = for_sampling(detector)
        made = for_sampling(generator)(source, folded(source), folded(driving))
    assert made.frames.std() > 0.01
    for found, wanted in (
        (made.frames, expected.frames),
        (made.motion.deformation, expected.motion.deformation),
        (made.motion.mask, expected.motion.mask),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    after = generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
