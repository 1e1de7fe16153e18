"""Encoders, decoders and condition networks: shapes and dependences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.networks.residual import ResidualBlock


@pytest.mark.parametrize(
    "shape",
    [
        (8, 8, 1),
        (9, 9, 1),
        (28, 28, 1),
        (32, 32, 3),
        (17, 30, 3),
        (64, 64, 3),
        (48, 65, 2),
        (3, 50, 1),
    ],
)
def test_conv_networks_fit_images_of_any_size(shape):
    encoder = kgm.conv_encoder(shape, 10, filters=4)
    assert encoder(np.zeros((2, *shape), np.float32)).shape == (2, 10)
    params_shape = (*shape[:2], 2 * shape[2])
    decoder = kgm.conv_decoder(5, params_shape, filters=4)
    assert decoder(np.zeros((2, 5), np.float32)).shape == (2, *params_shape)


def test_every_output_pixel_of_the_conv_decoder_depends_on_the_latent():
    decoder = kgm.conv_decoder(3, (13, 22, 1), filters=4)
    rng = np.random.default_rng(0)
    outputs = decoder(rng.standard_normal((8, 3)).astype("float32")).numpy()
    assert (outputs.std(axis=0) > 0).all()


def test_the_conv_encoder_depends_on_every_input_pixel():
    encoder = kgm.conv_encoder((9, 14, 1), 6, filters=4)
    pixels = np.eye(9 * 14, dtype=np.float32).reshape(-1, 9, 14, 1)
    difference = encoder(pixels) - encoder(np.zeros((1, 9, 14, 1)))
    assert (np.abs(difference).max(axis=1) > 0).all()


def test_mlp_networks_have_the_requested_widths():
    encoder = kgm.mlp_encoder((7, 5), 6, hidden_sizes=(11, 12))
    assert [w.shape for w in encoder.weights[::2]] == [
        (35, 11),
        (11, 12),
        (12, 6),
    ]
    decoder = kgm.mlp_decoder(3, (7, 5), hidden_sizes=(12, 11))
    assert decoder(np.zeros((4, 3), np.float32)).shape == (4, 7, 5)


def conditional(shape=(9, 14, 1), condition_size=3):
    """All networks that take a condition, with what else they take."""
    size = {"condition_size": condition_size}
    z = np.ones((4, 5))
    x = np.random.default_rng(1).random((4, *shape))
    return [
        (kgm.mlp_encoder(shape, 6, (11,), **size), x, (6,)),
        (kgm.mlp_decoder(5, shape, (11,), **size), z, shape),
        (kgm.conv_encoder(shape, 6, 4, **size), x, (6,)),
        (kgm.conv_decoder(5, shape, 4, **size), z, shape),
    ]


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 14, 3), (3, 5, 2)])
def test_networks_depend_on_every_feature_of_a_condition(shape):
    for network, rows, output_shape in conditional(shape):
        rows = np.repeat(rows[:1], 4, axis=0).astype("float32")
        features = np.eye(4, 3, dtype=np.float32)
        outputs = network([rows, features]).numpy()
        assert outputs.shape == (4, *output_shape)
        # The last row has no feature: each of the others differs from it.
        difference = np.abs(outputs[:3] - outputs[3]).reshape(3, -1)
        assert (difference.max(axis=1) > 1e-4).all(), network.name


def test_networks_with_a_condition_depend_on_every_input():
    for network, rows, _ in conditional():
        features = np.ones((1, 3), np.float32)
        for i in range(min(20, rows[0].size)):
            unit = np.zeros((1, *rows.shape[1:]), np.float32)
            zero = network([unit, features])
            unit.flat[i] = 1
            assert np.abs(network([unit, features]) - zero).max() > 0


def test_a_condition_is_also_a_channel_of_the_convolutions():
    encoder = kgm.conv_encoder((9, 14, 2), 6, filters=4, condition_size=3)
    assert encoder.get_layer("stem").kernel.shape == (3, 3, 2 + 1, 4)
    # That channel alone carries the features when the later join is cut.
    dense = next(x for x in encoder.layers if x.name.startswith("dense"))
    kernel, bias = dense.get_weights()
    kernel[-3:] = 0
    dense.set_weights([kernel, bias])
    x = np.zeros((4, 9, 14, 2), np.float32)
    outputs = encoder([x, np.eye(4, 3)]).numpy()
    assert np.abs(outputs[:3] - outputs[3]).max(axis=1).min() > 0


def test_without_a_condition_networks_are_sequential():
    for network, rows, output_shape in conditional(condition_size=0):
        assert isinstance(network, keras.Sequential)
        assert network(rows).shape == (4, *output_shape)
    with pytest.raises(ValueError, match="condition_size must be >= 0, got -1"):
        kgm.mlp_encoder((4,), 2, condition_size=-1)


@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
def test_conditional_networks_keep_to_the_policy(policy, request):
    request.getfixturevalue(policy)
    for network, rows, _ in conditional():
        assert network([rows, np.ones((4, 3))]).dtype == policy
    embedding = kgm.label_embedding(3, 2)
    assert embedding(np.arange(4)).dtype == policy
    assert kgm.mlp_prior(2, 4)(embedding(np.arange(4))).dtype == policy
    if policy == "float64":
        # Inputs of float32 would round: 1 + 1e-12 is another number.
        network, rows, _ = conditional()[0]
        one, other = (
            network([rows, np.full((4, 3), value)])
            for value in (1.0, 1 + 1e-12)
        )
        assert np.abs(one - other).max() > 0


def test_conditional_networks_come_back_from_files(tmp_path):
    features = np.random.default_rng(0).random((4, 3))
    networks = [
        (network, [rows, features]) for network, rows, _ in conditional()
    ]
    networks += [
        (kgm.label_embedding(4, 3), np.arange(4)),
        (kgm.image_condition((9, 14, 1), 3, 4), networks[0][1][0]),
        (kgm.mlp_prior(3, 4, (5,)), features),
    ]
    for network, inputs in networks:
        network.save(tmp_path / "network.keras")
        copy = keras.saving.load_model(tmp_path / "network.keras")
        np.testing.assert_array_equal(copy(inputs), network(inputs))


def test_each_label_and_no_label_have_an_embedding():
    network = kgm.label_embedding(num_classes=4, size=50)
    vectors = network(np.array([0, 1, 2, 3, 4, 0])).numpy()
    assert vectors.shape == (6, 50)
    assert len(np.unique(vectors, axis=0)) == 5
    np.testing.assert_array_equal(vectors[0], vectors[5])
    # The scale of the latents; the standard error of 250 draws is 5 %.
    assert vectors.std() == pytest.approx(1.0, abs=0.2)
    for name, sizes in (("num_classes", (0, 3)), ("size", (3, 0))):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            kgm.label_embedding(*sizes)


def test_condition_network_and_encoder_have_different_names():
    network = kgm.image_condition((9, 14, 2), 7, filters=4)
    assert network.name == "condition"
    assert network(np.zeros((2, 9, 14, 2))).shape == (2, 7)
    assert kgm.conv_encoder((9, 14, 2), 7).name == "encoder"


def test_mlp_prior_has_the_requested_widths():
    network = kgm.mlp_prior(3, 5, hidden_sizes=(7, 6))
    shapes = [w.shape for w in network.weights[::2]]
    assert shapes == [(3, 7), (7, 6), (6, 5)]


def test_a_gated_layer_is_a_dense_one_times_a_sigmoid_one(tmp_path):
    network = kgm.mlp_encoder((4,), 3, (300,), gated=True)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("f4")
    kernel, bias, *last = network.get_weights()
    # Both halves start as a dense layer of their own would.
    assert kernel.std() == pytest.approx(np.sqrt(2 / 304), rel=0.1)
    h = x @ kernel + bias
    h = h[:, :300] / (1 + np.exp(-h[:, 300:]))
    np.testing.assert_allclose(network(x), h @ last[0] + last[1], atol=1e-5)
    network.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(copy(x), network(x))
    decoder = kgm.mlp_decoder(2, (4, 4, 1), (6, 7), gated=True)
    shapes = [w.shape for w in decoder.weights[::2]]
    assert shapes == [(2, 12), (6, 14), (7, 16)]


def test_initial_weights_are_drawn_in_the_order_of_the_network():
    keras.utils.set_random_seed(1)
    alone = keras.layers.Conv2D(4, 3)
    alone.build((None, 8, 8, 1))
    keras.utils.set_random_seed(1)
    stem = kgm.conv_encoder((8, 8, 1), 6, 4).get_layer("stem")
    np.testing.assert_array_equal(stem.kernel, alone.kernel)


def test_residual_blocks_add_two_convolutions_at_each_resolution(tmp_path):
    """Of 8x8 and 4x4 images."""
    x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    for count in (0, 2):
        encoder = kgm.conv_encoder((8, 8, 1), 6, 4, residual_blocks=count)
        decoder = kgm.conv_decoder(5, (8, 8, 1), 4, residual_blocks=count)
        for network in (encoder, decoder):
            kernels = [w for w in network.weights if len(w.shape) == 4]
            assert len(kernels) == 2 + 2 * 2 * count
    encoder.save(tmp_path / "encoder.keras")
    copy = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(copy(x), encoder(x))
    with pytest.raises(ValueError, match="residual_blocks must be an int >= 0"):
        kgm.conv_encoder((8, 8, 1), 6, residual_blocks=-1)


def test_channels_and_residual_blocks_may_be_given_for_each_resolution():
    """Of 16x16, 8x8 and 4x4 images."""
    settings = {"filters": (2, 5, 3), "residual_blocks": (0, 1, 2)}
    encoder = kgm.conv_encoder((16, 16, 1), 6, **settings)
    decoder = kgm.conv_decoder(5, (16, 16, 1), **settings)
    for network in (encoder, decoder):
        shapes = [w.shape for w in network.weights if len(w.shape) == 4]
        square = [tuple(s[2:]) for s in shapes if s[2] == s[3]]
        assert sorted(square) == [(3, 3)] * 4 + [(5, 5)] * 2
    assert decoder(np.zeros((1, 5), np.float32)).shape == (1, 16, 16, 1)
    named = (
        "filters must be one int, or 3 ints for 16x16, 8x8, 4x4 pixels, got 2"
    )
    with pytest.raises(ValueError, match=named):
        kgm.conv_decoder(5, (16, 16, 1), (2, 3))
    with pytest.raises(ValueError, match="filters must be an int >= 1"):
        kgm.conv_encoder((16, 16, 1), 6, (2, 0, 3))
    with pytest.raises(ValueError, match="residual_blocks must be an int"):
        kgm.conv_encoder((16, 16, 1), 6, residual_blocks=1.5)
    assert kgm.conv_encoder((8, 8, 1), 6, np.int64(2)).count_params()


def test_a_new_residual_block_is_nearly_the_identity():
    x = np.random.default_rng(0).random((3, 8, 8, 32), np.float32)
    block = ResidualBlock()
    change = np.std(block(x) - x)
    assert 0 < change < 0.5 * np.std(x)
    first, bias, second, offset = block.get_weights()
    h = tf.nn.silu(tf.nn.conv2d(x, first, 1, "SAME") + bias)
    expected = x + tf.nn.conv2d(h, second, 1, "SAME") + offset
    np.testing.assert_allclose(block(x), expected, atol=1e-5)
    short = ResidualBlock(dtype="mixed_bfloat16")
    assert short(x).dtype == "bfloat16"
