"""Networks in a VAE: they see images, keep points apart at evaluation, and use what their outputs mean."""

import pytest
import torch
from torch import nn

import pyrovae
from pyrovae import check_pair, evaluate, fit, load, log_weights


def vae(decoder, latent, dim, likelihood, encoder=None):
    model = load("vae").module.VAE(decoder, latent, dim, likelihood)
    return model, pyrovae.guides.MeanField(dim, latent, (16,), encoder=encoder)


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (28, 28), (3, 9)])
@pytest.mark.parametrize("channels", [(4,), (6, 4), (6, 4, 4)])
def test_convolutions_fit_images_of_any_size(shape, channels):
    dim = shape[0] * shape[1]
    encoder = pyrovae.nn.ConvEncoder(shape, 6, channels[::-1])
    pair = vae(pyrovae.nn.ConvDecoder(shape, 3, 2, channels), 3, dim, pyrovae.likelihoods.PixelNormal(), encoder)
    check_pair(*pair, torch.rand(8, dim))


def test_a_pixels_numbers_are_where_its_likelihood_looks():
    """A decoder that says one thing of every pixel: μ and ρ in `PixelNormal`'s order, logits in `Categorical`'s."""
    for likelihood, numbers, beside in (
        (pyrovae.likelihoods.PixelNormal(), 2, False),
        (pyrovae.likelihoods.Categorical(5), 5, True),
    ):
        decoder = pyrovae.nn.ConvDecoder((4, 6), 2, numbers, (3,), beside=beside)
        last = decoder.layers[-1]
        values = torch.linspace(-1, 1, numbers)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(values)
        eta = decoder(torch.randn(3, 2))
        expected = values.repeat(24) if beside else values.repeat_interleave(24)
        assert torch.equal(eta, expected.expand(3, -1))
        assert eta.shape[-1] == likelihood.num_outputs(24)


def test_convolutions_see_which_pixels_are_neighbours():
    """A change of one pixel moves the first layer's outputs near that pixel alone."""
    encoder = pyrovae.nn.ConvEncoder((8, 8), 4, (2,))
    x = torch.rand(1, 64)
    moved = x.clone()
    moved[0, 8 * 6 + 6] += 1  # row 6, column 6
    change = [encoder.layers[0](p.reshape(1, 1, 8, 8)) for p in (x, moved)]
    where = (change[0] - change[1]).abs().amax((0, 1)) > 0
    assert where[3, 3]
    assert not where[:2].any()
    assert not where[:, :2].any()


def test_residual_blocks_of_zero_are_the_linear_map():
    net = pyrovae.nn.Residual(5, 3, width=8)
    x = torch.randn(7, 5)
    for block in net.blocks:
        for parameter in block[-1].parameters():
            nn.init.zeros_(parameter)
    torch.testing.assert_close(net(x), net.last(net.first(x)))
    check_pair(
        *vae(pyrovae.nn.Residual(2, 12, 16), 2, 6, pyrovae.likelihoods.PixelNormal(), pyrovae.nn.Residual(6, 4, 16)),
        torch.rand(8, 6),
    )


class Noisy(nn.Sequential):
    """Dropout and batch statistics in one decoder."""

    def __init__(self, latent, outputs):
        layers = [nn.Linear(latent, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs)]
        super().__init__(*layers)


def test_dropout_and_batch_norm_are_at_rest_in_evidence():
    """A point's numbers do not depend on its company or on dropout; the running statistics stay, and so does the mode."""
    torch.manual_seed(0)
    x = torch.rand(60, 6)
    model, guide = vae(Noisy(2, 6), 2, 6, pyrovae.likelihoods.FixedNormal(0.3))
    fit(model, guide, x, epochs=5, batch_size=20, compile=False)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate(model, guide, x, num_samples=2000)
    part = evaluate(model, guide, x[:3], num_samples=2000)
    assert model.decoder[1].training
    assert model.decoder[3].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    error = (found.log_likelihood_se[:3] ** 2 + part.log_likelihood_se**2).sqrt()
    assert ((found.log_likelihood[:3] - part.log_likelihood).abs() < 6 * error).all()
    # the same weights written out, with the decoder as evaluation leaves it
    model.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        weights = log_weights(model, guide, x[:3], 4)
        torch.manual_seed(1)
        alone = log_weights(model, guide, x[:3], 4)
    assert torch.equal(weights, alone)
    check_pair(model.train(), guide, x[:12])


def test_networks_are_written_as_options():
    pair = load("vae")
    options = pair.parse(
        ["latent=3", "decoder=ConvDecoder((4, 4), 3, 2, (4,))", "encoder=ConvEncoder((4, 4), 6, (4,))"]
    )
    model, guide = pair(16, **options)
    assert isinstance(model.decoder, pyrovae.nn.ConvDecoder)
    assert isinstance(guide.encoder, pyrovae.nn.ConvEncoder)
    check_pair(model, guide, torch.rand(8, 16))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
@pytest.mark.parametrize("name", ["vae", "hierarchical_vae"])
@pytest.mark.parametrize("likelihood", ["PixelNormal", "Categorical(3)", "FixedNormal(0.3)"])
def test_networks_are_convolutional_by_an_option(name, shape, likelihood):
    dim, pair = torch.Size(shape).numel(), load(name)
    options = pair.parse([f"image_shape={','.join(map(str, shape))}", f"likelihood={likelihood}"])
    model, guide = pair(dim, **options)
    assert isinstance(model.decoder, pyrovae.nn.ConvDecoder)
    assert isinstance(guide.encoder, pyrovae.nn.ConvEncoder)
    check_pair(model, guide, torch.randint(0, 3, (8, dim)) / 2)


def test_a_colours_numbers_are_where_its_likelihood_looks():
    """x has the colours of a pixel beside one another, and a decoder that knows only colours says the same of each pixel."""
    for numbers, beside in ((2, False), (5, True)):
        decoder = pyrovae.nn.ConvDecoder((4, 6, 3), 2, numbers, (3,), beside=beside)
        last, values = decoder.layers[-1], torch.arange(3.0 * numbers)  # numbers, then colours
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(values)
        eta = decoder(torch.randn(1, 2))[0]
        by_pixel = eta.reshape(4 * 6, 3, numbers) if beside else eta.reshape(numbers, 4 * 6, 3).permute(1, 2, 0)
        assert torch.equal(by_pixel, values.reshape(numbers, 3).mT.expand(24, -1, -1))


def test_an_encoder_sees_each_colour_apart():
    encoder = pyrovae.nn.ConvEncoder((4, 4, 3), 2, (2,))
    images = torch.rand(5, 4, 4, 3)
    expected = encoder.layers(images.permute(0, 3, 1, 2))
    assert torch.equal(encoder(images.flatten(1)), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image_shape": (5, 5)},
            "image_shape=5,5 has 25 numbers, and x has 48: give height and width, and 3 for colours",
        ),
        (
            {"image_shape": (6, 8), "likelihood": pyrovae.likelihoods.ImageNormal()},
            "ImageNormal has numbers that belong to no pixel",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(options, message):
    for name in ("vae", "hierarchical_vae"):
        with pytest.raises(pyrovae.InvalidInputError, match=message):
            load(name)(48, **options)


def test_other_guides_get_convolutions_too():
    for guide in ("LowRank", "IAF", "Mixture"):
        pair = load("vae")
        model, q = pair(48, **pair.parse([f"guide={guide}", "image_shape=4,4,3"]))
        assert isinstance(q.encoder, pyrovae.nn.ConvEncoder)
        check_pair(model, q, torch.rand(8, 48))
