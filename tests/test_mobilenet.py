"""MobileNetV2 against the paper's table, in plain calls."""

import pytest
import torch
import torch.nn.functional as F

from fedfast.models import build

# The paper's table 2: expansion t, channels c, repetitions n, stride s; s of the second row is 1.
TABLE = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
TABLE += [(6, 160, 3, 2), (6, 320, 1, 1)]


def plain(model, x, norm):
    """The paper's network in plain calls; weights are taken in the order they were made."""
    left = list(model.parameters())

    def conv(h, stride=1, groups=1, clipped=True):
        weight, scale, shift = left.pop(0), left.pop(0), left.pop(0)
        assert weight.shape[0] == scale.shape[0]
        h = F.conv2d(h, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        h = norm(h, scale, shift)
        return h.clamp(0, 6) if clipped else h

    h = conv(x)
    for t, c, n, s in TABLE:
        for i in range(n):
            inner = conv(h) if t > 1 else h
            assert inner.shape[1] == t * h.shape[1]
            inner = conv(inner, s if i == 0 else 1, groups=inner.shape[1])
            inner = conv(inner, clipped=False)
            assert inner.shape[1] == c
            h = inner + h if inner.shape == h.shape else inner
    h = conv(h).mean(dim=(2, 3))
    h = F.linear(h, *left[:2])
    assert len(left) == 2
    return h


NORMS = {
    "batch": lambda h, scale, shift: F.batch_norm(h, None, None, scale, shift, training=True),
    "group": lambda h, scale, shift: F.group_norm(h, 8, scale, shift),
}


@pytest.mark.parametrize("norm", NORMS)
def test_it_computes_what_it_says(norm):
    model = build("mobilenetv2", input_shape=(1, 9, 14), classes=3, seed=5, norm=norm).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 9, 14, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for p in model.parameters():  # norms start at 1 and 0, which would hide their parameters
            p += 0.02 * torch.randn(p.shape, dtype=x.dtype, generator=generator)
        torch.testing.assert_close(model(x), plain(model, x, NORMS[norm]), rtol=0, atol=1e-10)


def test_three_strides_of_two_on_small_images():
    model = build("mobilenetv2", input_shape=(3, 32, 32), classes=10)
    with torch.no_grad():
        assert model[:-3](torch.zeros(1, 3, 32, 32)).shape == (1, 1280, 4, 4)
