"""Small VAEs with several layers of latents, one with known answers.

The linear-Gaussian one has z2 ~ N(0, I), z1 | z2 ~ N(A z2 + a, C C') and
x | z1, z2 ~ N(W [z1, z2] + b, s^2 I), so that x, z1 and z2 are jointly Gaussian
and every conditional distribution of the posterior is known.
"""

import numpy as np
import scipy.stats

import keras_genmodels as kgm
from support.linear_gaussian import POSTERIORS, gaussian_params
from support.small_priors import make_prior

SHAPE = (8, 8, 1)

_RNG = np.random.default_rng(7)
A, C = _RNG.standard_normal((2, 2)), np.array([[0.9, 0.0], [0.4, 0.6]])
W = _RNG.standard_normal((5, 4))
SHIFT_A, SHIFT_B, S = np.array([0.5, -1.0]), _RNG.standard_normal(5), 0.5
# Of noise (2 of z1, 2 of z2, 5 of x) to (z1, z2, x).
_ROOT_Z = np.block([[C, A, np.zeros((2, 5))], [np.eye(9)[2:4]]])
ROOT = np.concatenate([_ROOT_Z, W @ _ROOT_Z + S * np.eye(9)[4:]])
_MEAN_Z = np.concatenate([SHIFT_A, np.zeros(2)])
MEAN = np.concatenate([_MEAN_Z, W @ _MEAN_Z + SHIFT_B])
Z1, Z2, X = np.arange(2), np.arange(2, 4), np.arange(4, 9)


def joint_data(n, seed=0):
    """Draws x of the model, `[n, 5]`."""
    noise = np.random.default_rng(seed).standard_normal((n, 9))
    return (MEAN + noise @ ROOT.T)[:, X]


def log_likelihood(x):
    covariance = (ROOT @ ROOT.T)[np.ix_(X, X)]
    return scipy.stats.multivariate_normal(MEAN[X], covariance).logpdf(x)


def linear_hvae(widen=1.0, **settings):
    """A model of two levels with the true conditionals, or wider ones of q."""
    layers = [POSTERIORS["full"](2) for _ in range(2)]
    size = layers[0].params_size
    model = kgm.HierarchicalVAE(
        kgm.mlp_encoder((5,), 5, hidden_sizes=()),
        kgm.mlp_decoder(4, (5,), hidden_sizes=()),
        layers,
        kgm.IndependentNormal((5,), stddev=S),
        [
            kgm.mlp_encoder((5,), size, (), condition_size=2),
            kgm.mlp_encoder((5,), size, ()),
        ],
        [kgm.mlp_encoder((2,), size, ())],
        **settings,
    )
    model.encoder.set_weights([np.eye(5), np.zeros(5)])
    model.decoder.set_weights([W.T, SHIFT_B])
    model.prior_networks[0].set_weights(
        gaussian_params(layers[0], A.T, SHIFT_A, C @ C.T)
    )
    for network, of, given in (
        (model.posterior_networks[0], Z1, [*X, *Z2]),
        (model.posterior_networks[1], Z2, X),
    ):
        gain, mean, covariance = _conditional(of, given)
        network.set_weights(
            gaussian_params(layers[0], gain.T, mean, widen**2 * covariance)
        )
    return model


def _conditional(of, given):
    """Returns p(of | given) = N(gain given + mean, covariance)."""
    joint = ROOT @ ROOT.T
    cross, inner = joint[np.ix_(of, given)], joint[np.ix_(given, given)]
    gain = np.linalg.solve(inner, cross.T).T
    covariance = joint[np.ix_(of, of)] - gain @ cross.T
    return gain, MEAN[of] - gain @ MEAN[given], covariance


def make_hvae(sizes=(3, 2), posterior="diagonal", prior=None, **settings):
    """A model of images; `prior` is a name of `small_priors.KINDS`."""
    layers = [POSTERIORS[posterior](n) for n in sizes]
    above = [sum(sizes[i + 1 :]) for i in range(len(sizes))]
    likelihood = kgm.IndependentBernoulli(SHAPE)
    return kgm.HierarchicalVAE(
        kgm.mlp_encoder(SHAPE, 8, (12,)),
        kgm.mlp_decoder(sum(sizes), likelihood.params_shape, (12,)),
        layers,
        likelihood,
        [
            kgm.mlp_encoder((8,), layer.params_size, (6,), n)
            for layer, n in zip(layers, above, strict=True)
        ],
        [
            kgm.mlp_encoder((n,), layer.params_size, (6,))
            for layer, n in zip(layers[:-1], above, strict=False)
        ],
        prior=prior and make_prior(prior, sizes[-1], SHAPE),
        **settings,
    )
