"""Distributions of latent vectors that consist of several layers."""

import typing

import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.distributions import latents
from keras_genmodels.distributions.vectors import VectorDistribution

tfd = tfp.distributions


class LayerDraw(typing.NamedTuple):
    """A layer of latents, given those above it at a draw."""

    # A Gaussian: batch `[num_samples * batch]`, that of the top layer as in
    # `LayeredDistribution`.
    distribution: tfd.Distribution
    log_prob: tf.Tensor  # of the draw, [num_samples, batch], nats


class LayeredDistribution(VectorDistribution):
    """A distribution of layers of latents, each given those above it.

    z is one vector, the layers z_1 ... z_K joined; z_K is the top, and

        p(z) = p(z_K) prod_k p(z_k | z_{k + 1}, ..., z_K)

    The layers below the top are Gaussian.

    Args:
        top: distribution of the top layer, batch `[batch]` or `[]`.
        conditionals: for each layer below the top, z_1 first, a function of
            the layers above, joined, float `[..., n]`, to the Gaussian of the
            layer with `loc` and `scale`; its batch is `[rows]`, all axes of
            the argument but the last.
        sizes: length of each layer, z_1 first.
    """

    def __init__(self, top, conditionals, sizes):
        parameters = dict(top=top, conditionals=conditionals, sizes=sizes)
        self._top = top
        self._conditionals = tuple(conditionals)
        self._sizes = tuple(sizes)
        super().__init__(sum(sizes), top.dtype, parameters)

    def transform(self, noise):
        z, _ = self._draw(noise)
        return z

    def draw_layers(self, noise):
        """Computes the draws that belong to noise, and what is known of them.

        Args:
            noise: float tensor `[num_samples, batch, size]`, standard normal.

        Returns:
            z like noise; and a list of `LayerDraw`s, that of z_1 first.
        """
        z, layers = self._draw(noise)
        shape, draws = tf.shape(noise)[:-1], []
        for i, layer in enumerate(layers):
            part = self.part(noise, i)
            if i < len(self._conditionals):
                part = rows_of(part)
            log_prob = latents.log_prob_of_noise(layer, part)
            draws.append(LayerDraw(layer, tf.reshape(log_prob, shape)))
        return z, draws

    def layers_at(self, z):
        """Returns the distribution of each layer given those above it in z.

        Args:
            z: float tensor `[..., size]`.

        Returns:
            list of distributions, that of z_1 first: below the top Gaussians
            of batch `[rows]`.
        """
        above = [self._above(z, i) for i in range(len(self._conditionals))]
        pairs = zip(self._conditionals, above, strict=True)
        return [*(conditional(z) for conditional, z in pairs), self._top]

    def layer_means(self):
        """Returns the mean of each layer given the means of those above.

        It stands for the distribution where a single z does, and is not its
        mean. That of the top layer is `latents.center`.

        Returns:
            float tensor `[batch, size]`.
        """
        top = latents.center(self._top)
        z, _ = _descend(top, self._conditionals, lambda i, layer: layer.mean())
        return z

    def _draw(self, noise):
        """Returns the draws of some noise and the distributions of layers."""
        top = latents.transform(self._top, self.part(noise, -1))
        z, layers = draw_below(top, self._conditionals, self._sizes, noise)
        return z, [*layers, self._top]

    def part(self, z, i):
        """Returns layer i of z, float tensor `[..., size]`, 0 being z_1."""
        return _part(z, self._sizes, i)

    def _above(self, z, i):
        """Returns the layers above layer i of z, joined."""
        return z[..., sum(self._sizes[: i + 1]) :]

    def _log_prob(self, z):
        if self._top.batch_shape.rank:
            shape = tf.concat(
                [self._top.batch_shape_tensor(), [self._size]], axis=0
            )
            z = z + tf.zeros(shape, z.dtype)
        found = self._top.log_prob(self.part(z, -1))
        for i, layer in enumerate(self.layers_at(z)[:-1]):
            log_prob = layer.log_prob(rows_of(self.part(z, i)))
            found += tf.reshape(log_prob, tf.shape(found))
        return found

    def _sample_n(self, n, seed=None):
        of_top, of_others = tfp.random.split_seed(seed, 2, salt="layers")
        top = self._top.sample(n, seed=of_top)
        below = self._size - self._sizes[-1]
        shape = tf.concat([tf.shape(top)[:-1], [below]], axis=0)
        noise = tf.random.stateless_normal(shape, of_others, dtype=self.dtype)
        z, _ = draw_below(top, self._conditionals, self._sizes, noise)
        return z

    def _batch_shape(self):
        return self._top.batch_shape

    def _batch_shape_tensor(self):
        return self._top.batch_shape_tensor()


def draw_below(top, conditionals, sizes, noise):
    """Draws the layers below given draws of the top layer.

    Args:
        top: float tensor `[..., size of the top layer]`.
        conditionals, sizes: as of `LayeredDistribution`.
        noise: float tensor `[..., n]`, standard normal; n is at least the size
            of the layers below.

    Returns:
        z, float tensor `[..., sum(sizes)]`; and the list of the Gaussians of
        the layers below, of batch `[rows]`, that of z_1 first.
    """

    def draw(i, layer):
        return latents.transform(layer, rows_of(_part(noise, sizes, i)))

    return _descend(top, conditionals, draw)


def with_rows(features, above):
    """Repeats the features of each example for all draws of latents.

    Args:
        features: float tensor `[batch, width]`.
        above: float tensor `[..., batch, n]`.

    Returns:
        both as a list of tensors `[rows, width]` and `[rows, n]`.
    """
    shape = tf.concat([tf.shape(above)[:-1], [features.shape[-1]]], axis=0)
    return [rows_of(tf.broadcast_to(features, shape)), rows_of(above)]


def rates_of_layers(draws, prior, z):
    """Computes the rate of each layer of latents.

    It is KL(q(z_k | x, above) || p(z_k | above)) at the drawn layers above
    where TFP has it in closed form, else log q - log p at the draw.

    Args:
        draws: list of `LayerDraw`s from q(z|x), of `draw_layers`.
        prior: `LayeredDistribution` of the same layers.
        z: these draws, float tensor `[num_samples, batch, size]`.

    Returns:
        list of float tensors `[batch]`, nats, averaged over the draws, that of
        z_1 first; in expectation their sum is KL(q(z|x) || p(z)).
    """
    return [
        _rate(draw, layer, prior.part(z, i))
        for i, (draw, layer) in enumerate(
            zip(draws, prior.layers_at(z), strict=True)
        )
    ]


def _rate(draw, prior, z):
    """Computes the rate of one layer, as `rates_of_layers`."""
    if not latents.is_gaussian(prior):
        return tf.reduce_mean(draw.log_prob - prior.log_prob(z), axis=0)
    rate = tfd.kl_divergence(draw.distribution, prior)
    if prior.batch_shape.rank == 0:
        return rate  # That of the top layer is the same for all draws.
    return tf.reduce_mean(tf.reshape(rate, tf.shape(draw.log_prob)), axis=0)


def rows_of(z):
    """Joins all axes of a tensor but the last, `[rows, n]`."""
    return tf.reshape(z, (tf.reduce_prod(tf.shape(z)[:-1]), z.shape[-1]))


def _descend(top, conditionals, draw):
    """Adds the layers below the top, one by one.

    Args:
        top: float tensor `[..., size of the top layer]`.
        conditionals: as of `LayeredDistribution`.
        draw: function of the index of a layer and its Gaussian of batch
            `[rows]` to its latents `[rows, size of the layer]`.

    Returns:
        as `draw_below`.
    """
    z, layers = top, []
    for i, conditional in reversed([*enumerate(conditionals)]):
        layer = conditional(z)
        drawn = draw(i, layer)
        shape = tf.concat([tf.shape(z)[:-1], drawn.shape[-1:]], axis=0)
        z = tf.concat([tf.reshape(drawn, shape), z], axis=-1)
        layers.insert(0, layer)
    return z, layers


def _part(z, sizes, i):
    """Returns layer i of z, or of noise."""
    start = sum(sizes[: i % len(sizes)])
    return z[..., start : start + sizes[i]]
