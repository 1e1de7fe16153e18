"""Distributions of latent vectors, as transformations of standard normal noise.

Posteriors and priors are Gaussians of TFP with `loc` and `scale`, or
`tfd.TransformedDistribution`s of such. Both turn noise eps ~ N(0, I) into a
draw: z = loc + scale eps, followed by the bijector. Both may also consist of
layers (`distributions.layered`), and a prior may be another distribution with a
method `transform(noise)` of its own. What follows from that is computed here,
for any of them.
"""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def standard_normal(size, dtype):
    """Returns N(0, I) over vectors, a `tfd.MultivariateNormalDiag`."""
    return tfd.MultivariateNormalDiag(
        tf.zeros(size, dtype), tf.ones(size, dtype)
    )


def transform(distribution, noise):
    """Computes the draws that belong to standard normal noise.

    Args:
        distribution: a distribution of latents, batch `[batch]` or `[]`.
        noise: float tensor `[..., batch, latent_size]`.

    Returns:
        float tensor like `noise`.

    Raises:
        TypeError: for another kind of distribution.
    """
    if is_gaussian(distribution):
        moved = apply_scale(distribution.scale, "matvec", noise)
        return distribution.loc + moved
    if hasattr(distribution, "transform"):
        return distribution.transform(noise)
    _check_transformed(distribution)
    return distribution.bijector.forward(
        transform(distribution.distribution, noise)
    )


def log_prob_of_noise(distribution, noise):
    """Computes the log density at `transform(distribution, noise)`.

    It needs no inverse, so that it is exact where `log_prob` would round.

    Returns:
        float tensor `[..., batch]`, nats.
    """
    if is_gaussian(distribution):
        normal = standard_normal(noise.shape[-1], noise.dtype)
        log_det = distribution.scale.log_abs_determinant()
        return normal.log_prob(noise) - log_det
    _check_transformed(distribution)
    base = distribution.distribution
    log_det = distribution.bijector.forward_log_det_jacobian(
        transform(base, noise), event_ndims=1
    )
    return log_prob_of_noise(base, noise) - log_det


def draw(posterior, noise):
    """Computes the draws that belong to noise, and their log density.

    Args:
        posterior: a distribution of latents, batch `[batch]`.
        noise: float tensor `[num_samples, batch, latent_size]`.

    Returns:
        z like `noise`; its log density, `[num_samples, batch]`, nats; and, of
        a distribution of several layers, a list of
        `distributions.layered.LayerDraw`s, else None.
    """
    if not has_layers(posterior):
        z = transform(posterior, noise)
        return z, log_prob_of_noise(posterior, noise), None
    z, layers = posterior.draw_layers(noise)
    return z, tf.add_n([layer.log_prob for layer in layers]), layers


def center(distribution):
    """Returns the latent that stands for the distribution.

    Returns:
        float tensor `[batch, latent_size]`: the mean of a Gaussian or of a
        mixture of them, that of each layer given the means above of several
        layers, else the draw of zero noise.
    """
    if is_gaussian(distribution) or isinstance(
        distribution, tfd.MixtureSameFamily
    ):
        return distribution.mean()
    if has_layers(distribution):
        return distribution.layer_means()
    noise = tf.zeros(_shape(distribution, 1), distribution.dtype)
    return transform(distribution, noise)[0]


def parameters(distribution):
    """Returns the tensors that describe the distribution.

    Returns:
        dict of float tensors: `loc` `[batch, latent_size]`, as of `center`,
        and for a Gaussian its `scale_tril` `[batch, latent_size, latent_size]`
        if its covariance is full, else its `stddev` `[batch, latent_size]`.
        Of a distribution of several layers `z`, its `center`, alone.
    """
    if has_layers(distribution):
        return {"z": center(distribution)}
    found = {"loc": center(distribution)}
    if not is_gaussian(distribution):
        return found
    if is_diagonal(distribution):
        return {**found, "stddev": distribution.stddev()}
    return {**found, "scale_tril": distribution.scale.to_dense()}


def kl_of_each(first, second):
    """Computes KL(first || second) of each entry of diagonal Gaussians.

    Returns:
        float tensor `[batch, latent_size]`, nats.

    Raises:
        ValueError: for other distributions.
    """
    for each in (first, second):
        if not is_diagonal(each):
            raise ValueError(
                f"the rate of each latent needs diagonal Gaussians, got {each}"
            )
    return tfd.kl_divergence(
        *(tfd.Normal(it.mean(), it.stddev()) for it in (first, second))
    )


def mean_given_noisy(distribution, noisy, sigma):
    """Computes E[z | z + sigma eps], z of diagonal Gaussians, eps ~ N(0, I).

    Args:
        distribution: of z, batch `[batch]`, event `[L]`; `is_diagonal`.
        noisy: float tensor `[draws, batch, L]`, draws of z + sigma eps.
        sigma: float tensor `[draws, batch]`, > 0.

    Returns:
        float tensor like `noisy`.
    """
    mean, deviation = (
        tf.cast(value, noisy.dtype)
        for value in (distribution.mean(), distribution.stddev())
    )
    share = deviation**2 / (deviation**2 + sigma[..., tf.newaxis] ** 2)
    return mean + share * (noisy - mean)


def is_diagonal(distribution):
    """Returns whether it is a Gaussian of TFP with diagonal covariance."""
    return is_gaussian(distribution) and isinstance(
        distribution.scale, tf.linalg.LinearOperatorDiag
    )


def is_gaussian(distribution):
    """Returns whether it is a Gaussian of TFP with `loc` and `scale`."""
    return isinstance(distribution, tfd.MultivariateNormalLinearOperator)


def has_layers(distribution):
    """Returns whether it is a `distributions.layered.LayeredDistribution`."""
    return hasattr(distribution, "draw_layers")


def apply_scale(scale, verb, noise, **arguments):
    """Applies a linear operator to the vectors of all draws of a batch.

    Args:
        scale: `tf.linalg.LinearOperator` of one batch.
        verb: "matvec" or "solvevec".
        noise: float tensor `[batch, latent_size]` or
            `[num_samples, batch, latent_size]`.
        **arguments: of the operator's method.

    Returns:
        float tensor like `noise`.
    """
    is_diagonal = isinstance(scale, tf.linalg.LinearOperatorDiag)
    if is_diagonal or len(noise.shape) != 3 or not scale.batch_shape.rank:
        return getattr(scale, verb)(noise, **arguments)
    # The draws as columns: one triangular product per example, not per draw.
    columns = tf.transpose(noise, (1, 2, 0))
    method = getattr(scale, {"matvec": "matmul", "solvevec": "solve"}[verb])
    return tf.transpose(method(columns, **arguments), (2, 0, 1))


def _shape(distribution, num):
    """Returns the shape of `num` samples, samples axis first."""
    return tf.concat(
        [
            [num],
            distribution.batch_shape_tensor(),
            distribution.event_shape,
        ],
        axis=0,
    )


def _check_transformed(distribution):
    # Without composite tensors it is of a private class of TFP.
    if not (
        hasattr(distribution, "bijector")
        and hasattr(distribution, "distribution")
    ):
        raise TypeError(
            "a posterior or prior must be a Gaussian with loc and scale (such "
            "as tfd.MultivariateNormalDiag) or a tfd.TransformedDistribution "
            f"of one, got {distribution}"
        )
