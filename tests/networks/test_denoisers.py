"""Networks of denoisers: shapes, homogeneity, precision, files."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.network_inputs import LEVEL, SMALL, images, inputs_of, perturb

from keras_genmodels.networks import denoisers as networks
from keras_genmodels.networks import layers
from keras_genmodels.networks.channel_normalization import ChannelNormalization

SHAPES = [(8, 8, 1), (28, 28, 1), (9, 13, 3), (64, 64, 3)]


def builds():
    return {
        "unet": lambda: networks.unet((9, 13, 3), **SMALL),
        "unconditional_unet": lambda: networks.unet(
            (9, 13, 3), noise_conditional=False, **SMALL
        ),
        "attentive_unet": lambda: networks.unet(
            (9, 13, 3), attention_levels=2, **SMALL
        ),
        "bias_free_unet": lambda: networks.bias_free_unet((9, 13, 3), **SMALL),
        "unet_of_squares": lambda: networks.unet(
            (9, 13, 3), stem_stride=2, **SMALL
        ),
        "mlp_by_label": lambda: networks.mlp_denoiser(
            (2,), noise_conditional=False, num_classes=3, hidden_sizes=(7,)
        ),
        "mlp": lambda: networks.mlp_denoiser((2,), hidden_sizes=(7, 6)),
        "unconditional_mlp": lambda: networks.mlp_denoiser(
            (3, 2), noise_conditional=False, hidden_sizes=(7,)
        ),
    }


def normalized(noise_conditional):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return networks.unet(
            (9, 13, 3),
            noise_conditional=noise_conditional,
            normalization_groups=2,
            **SMALL,
        )


SLOW = pytest.mark.slow
# The others have layers of these, and tests of their own.
_QUICK = ("unet", "attentive_unet", "bias_free_unet", "mlp", "mlp_by_label")

every_network = pytest.mark.parametrize(
    "build",
    [
        *(
            pytest.param(build, id=name, marks=[SLOW] * (name not in _QUICK))
            for name, build in builds().items()
        ),
        *(
            pytest.param(
                functools.partial(normalized, conditional),
                id=f"normalized_{conditional}",
                marks=SLOW,
            )
            for conditional in (True, False)
        ),
    ],
)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=[SLOW] * (shape in SHAPES[1::2]))
        for shape in SHAPES
    ],
    ids=str,
)
def test_image_networks_take_images_of_any_size(shape):
    x = images(shape)
    for network in (
        networks.unet(shape, **SMALL),
        networks.unet(shape, noise_conditional=False, **SMALL),
        networks.bias_free_unet(shape, **SMALL),
    ):
        assert network(inputs_of(network, x)).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 50, 2), (1, 5, 1)], ids=str)
def test_tiny_and_narrow_images_have_fewer_levels(shape):
    network = perturb(networks.unet(shape, **SMALL))
    x = images(shape)
    assert network(inputs_of(network, x)).shape == x.shape


@pytest.mark.parametrize("shape", [(2,), (4, 3), (2, 3, 2)], ids=str)
def test_mlp_takes_events_of_any_rank(shape):
    x = images(shape)
    network = networks.mlp_denoiser(shape, hidden_sizes=(5,))
    assert network(inputs_of(network, x)).shape == x.shape


@every_network
def test_new_networks_return_zeros(build):
    network = build()
    x = images(network.output_shape[1:])
    assert not np.any(network(inputs_of(network, x)))


def test_a_stem_with_a_stride_works_on_squares_of_pixels():
    """A square of 2 x 2 pixels is one pixel of 4 times the channels."""
    arguments = {"noise_conditional": False, **SMALL}
    network = perturb(networks.unet((8, 12, 2), stem_stride=2, **arguments))
    of_squares = networks.unet((4, 6, 8), **arguments)
    weights = network.get_weights()
    kernel = weights[0].reshape(3, 2, 3, 2, 2, -1).transpose(0, 2, 1, 3, 4, 5)
    of_squares.set_weights([kernel.reshape(3, 3, 8, -1), *weights[1:]])
    x = images((8, 12, 2))
    expected = of_squares(tf.nn.space_to_depth(x, 2))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(
        network(x), tf.nn.depth_to_space(expected, 2), atol=1e-5
    )


@pytest.mark.parametrize("size", [(9, 13), (2, 3)], ids=str)
def test_squares_at_the_border_are_filled_with_zeros(size):
    missing = [-side % 4 for side in size]
    larger = [side + n for side, n in zip(size, missing, strict=True)]
    network, whole = (
        networks.unet(
            (*sides, 1), noise_conditional=False, filters=(2,), stem_stride=4
        )
        for sides in (size, larger)
    )
    whole.set_weights(perturb(network).get_weights())
    x = images((*size, 1))
    padded = np.pad(x, [(0, 0), *((0, n) for n in missing), (0, 0)])
    np.testing.assert_allclose(
        network(x), whole(padded)[:, : size[0], : size[1]], atol=1e-6
    )


@pytest.mark.parametrize("name", ["unet", "bias_free_unet"])
def test_every_pixel_depends_on_every_other(name):
    network = perturb(getattr(networks, name)((8, 11, 1), **SMALL))
    x = tf.constant(images((8, 11, 1), 1))
    level = tf.fill((1,), LEVEL)
    with tf.GradientTape() as tape:
        tape.watch(x)
        corner = network([x, level] if name == "unet" else x)[0, 0, 0, 0]
    gradient = tape.gradient(corner, x)
    assert np.all(gradient.numpy() != 0)


def test_bias_free_unet_is_homogeneous(float64):
    network = perturb(networks.bias_free_unet((9, 13, 1), **SMALL))
    x = images((9, 13, 1), dtype="float64") - 0.5
    y = network(x).numpy()
    assert np.abs(y).max() > 1e-3
    for factor in (0.01, 0.3, 7.0, 100.0):
        np.testing.assert_allclose(
            network(factor * x).numpy(), factor * y, rtol=1e-10, atol=1e-13
        )


def test_bias_free_unet_has_kernels_only():
    network = networks.bias_free_unet((28, 28, 1), **SMALL)
    assert {weight.name for weight in network.weights} == {"kernel"}


def test_upsampling_is_a_transposed_convolution():
    convolution = keras.layers.Conv2D(8, 1)
    transposed = keras.layers.Conv2DTranspose(2, 2, strides=2)
    x = images((3, 5, 4))
    y = layers.DepthToSpace()(convolution(x))
    transposed.build(x.shape)
    kernel = tf.reshape(convolution.kernel, (4, 2, 2, 2))
    transposed.kernel.assign(tf.transpose(kernel, (1, 2, 3, 0)))
    np.testing.assert_allclose(y, transposed(x), atol=1e-6)


@every_network
def test_every_weight_has_a_gradient(build):
    network = perturb(build())
    x = images(network.output_shape[1:], 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(inputs_of(network, x)) - x))
    gradients = tape.gradient(loss, network.trainable_variables)
    for weight, gradient in zip(
        network.trainable_variables, gradients, strict=True
    ):
        assert gradient is not None, weight.path
        # That of a table is sparse.
        gradient = tf.convert_to_tensor(gradient)
        assert np.any(gradient.numpy() != 0), weight.path


@pytest.mark.parametrize("name", ["unet", "mlp"])
def test_conditional_networks_depend_on_the_level(name):
    network = perturb(builds()[name]())
    x = images(network.output_shape[1:])
    outputs = [network(inputs_of(network, x, level)) for level in (-1.0, 0.5)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    # Each example has its own level.
    both = network([x, np.array([-1.0, 0.5], np.float32)])
    expected = np.stack([outputs[0][0], outputs[1][1]])
    np.testing.assert_allclose(both, expected, atol=1e-5)


def test_a_unet_by_label_depends_on_label_and_level():
    network = perturb(networks.unet((9, 13, 3), num_classes=3, **SMALL))
    x = images((9, 13, 3))
    found = [
        network([x, np.full(2, level, x.dtype), np.full(2, label)]).numpy()
        for level in (LEVEL, 0.5)
        for label in range(4)
    ]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("name", ["unet", "mlp"])
def test_each_layer_has_its_own_part_of_one_modulation(name):
    network = builds()[name]()
    blocks = [each for each in network.layers if isinstance(each, layers.FiLM)]
    bias = network.get_layer("modulations").bias
    ends = np.cumsum([2 * block.input[0].shape[-1] for block in blocks])
    assert ends[-1] == bias.shape[0]
    bias.assign(np.arange(ends[-1]))
    parts = keras.Model(network.input, [block.input[1] for block in blocks])
    shape = network.input_shape[0][1:]
    values = parts(inputs_of(network, images(shape)))
    starts = np.concatenate([[0], ends[:-1]])
    for value, start, end in zip(values, starts, ends, strict=True):
        np.testing.assert_array_equal(value[0], np.arange(start, end))


def test_the_sizes_of_a_split_are_checked():
    with pytest.raises(ValueError, match=r"^sizes must be a list .* got \[\]$"):
        layers.Split([])


def test_the_default_unet_is_that_of_the_benchmarks():
    assert networks.unet((28, 28, 1)).count_params() == 1_227_809


def test_a_label_adds_a_table_and_columns_to_the_default_unet():
    plain, by_label = (
        {
            weight.path: weight.shape
            for weight in networks.unet(
                (8, 8, 1), num_classes=n, **SMALL
            ).weights
        }
        for n in (None, 3)
    )
    changed = {*by_label.items()} - {*plain.items()}
    assert changed == {
        ("label/embeddings", (4, 128)),
        ("level_1/kernel", (256, 128)),
    }


@every_network
def test_a_file_restores_a_network(build, tmp_path):
    network = perturb(build())
    x = inputs_of(network, images(network.output_shape[1:]))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x), network(x))


@every_network
def test_networks_work_in_mixed_bfloat16(build, request):
    exact = perturb(build())
    x = inputs_of(exact, images(exact.output_shape[1:]))
    request.getfixturevalue("bfloat16")
    mixed = build()
    mixed.set_weights(exact.get_weights())
    outputs = mixed(x)
    assert outputs.dtype == tf.float32
    expected = exact(x).numpy()
    np.testing.assert_allclose(
        outputs, expected, atol=0.05 * np.abs(expected).max()
    )


@every_network
def test_networks_work_in_float64(build, float64):
    network = perturb(build())
    x = images(network.output_shape[1:], dtype="float64")
    outputs = network(inputs_of(network, x))
    assert outputs.dtype == tf.float64
    # A change below the precision of float32 has an effect.
    nudged = network(inputs_of(network, x + 1e-11))
    assert np.abs(nudged - outputs).max() > 0


def test_mixed_precision_does_not_round_the_level(bfloat16):
    network = networks.mlp_denoiser((2,), hidden_sizes=(4,))
    features = network.get_layer(index=fourier_features_index(network))
    probe = keras.Model(network.input, features.output)
    level = np.array([0.4001, 0.4009], np.float32)  # one bfloat16 number
    fine = tf.sin(16 * level)
    found = probe([np.zeros((2, 2), np.float32), level])
    assert found.dtype == tf.bfloat16
    np.testing.assert_allclose(
        tf.cast(found[:, features.size // 2 - 1], "float32"), fine, atol=2e-3
    )


@pytest.mark.slow
def test_a_network_learns_to_denoise():
    keras.utils.set_random_seed(0)
    network = networks.bias_free_unet((8, 8, 1), filters=(8, 16), blocks=1)
    rng = np.random.default_rng(0)
    clean = np.ones((256, 8, 8, 1)) * rng.random((256, 1, 1, 1))
    noise = 0.5 * rng.standard_normal(clean.shape)
    network.compile(keras.optimizers.Adam(1e-2), "mse")
    network.fit(clean + noise, noise, epochs=15, verbose=0)
    residual = network.predict(clean + noise, verbose=0) - noise
    assert np.mean(residual**2) < 0.1 * np.mean(noise**2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.unet((8, 8)), "image_shape must be"),
        (lambda: networks.unet((8, 0, 1)), "image_shape must be"),
        (lambda: networks.unet(8), "image_shape must be"),
        (lambda: networks.unet((8, 8, 1), filters=()), "filters must be"),
        (lambda: networks.unet((8, 8, 1), filters=(4, -1)), "filters must be"),
        (lambda: networks.unet((8, 8, 1), blocks=0), "blocks must be"),
        (lambda: networks.unet((8, 8, 1), blocks=True), "blocks must be"),
        (lambda: networks.unet((8, 8, 1), stem_stride=0), "stem_stride must"),
        (lambda: networks.unet((8, 8, 1), stem_stride=6), "a power of 2"),
        (
            lambda: networks.bias_free_unet((8, 8, 1), filters=(4.0,)),
            "filters must be",
        ),
        (lambda: networks.bias_free_unet((8,)), "image_shape must be"),
        (lambda: networks.mlp_denoiser(()), "event_shape must be"),
        (
            lambda: networks.mlp_denoiser((2,), hidden_sizes=(0,)),
            "hidden_sizes must be",
        ),
        (lambda: layers.FourierFeatures(3), "size must be"),
        (
            lambda: networks.unet((8, 8, 1), normalization_groups=5),
            "normalization_groups must be",
        ),
        (lambda: ChannelNormalization(0), "groups must be"),
        (lambda: ChannelNormalization(2, 0.0), "epsilon must be"),
        (
            lambda: ChannelNormalization(4).build((None, 3, 3, 6)),
            "groups must divide the 6 channels, got 4",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_old_arguments_are_accepted_with_a_warning():
    for build in (
        lambda: networks.unet((4, 4, 1), conditional=False, filters=(2,)),
        lambda: networks.unet((4, 4, 1), False, (2,)),
        lambda: networks.mlp_denoiser((4,), False, (2,)),
    ):
        with pytest.warns(DeprecationWarning, match="noise_conditional"):
            assert not isinstance(build().input, list)


def fourier_features_index(network):
    kinds = [type(layer) for layer in network.layers]
    return kinds.index(layers.FourierFeatures)
