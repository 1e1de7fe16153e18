"""The distribution that a denoiser of vectors has learned, as a prior p(z)."""

import tensorflow as tf

from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import kind_of
from keras_genmodels.distributions.vectors import VectorDistribution
from keras_genmodels.sampling.density import MAX_EXACT_SIZE, probability_flow
from keras_genmodels.sampling.generation import generate

# Of `log_prob`, by the dtype that D is computed in: that of a step is far
# below the error of an importance-weighted estimate.
_TOLERANCES = {"float32": 1e-2}


class FlowPrior(VectorDistribution):
    """p_sigma_min of a denoiser of vectors, by the probability-flow ODE.

    The ODE maps N(m, S + sigma_max^2 I), from which the denoiser starts, to
    the distribution of its data with noise of the lowest level. Draws solve it
    down to sigma_min, without a last denoising step, and `log_prob` up from
    sigma_min: both are of the same distribution, up to the errors of the
    solvers. Each draw is a function of standard normal noise (`transform`).

    Args:
        denoiser: an adapted `Denoiser` of events `[size]` that needs sigma and
            takes no condition. Its `noisy_data` has a method `transform`, as
            `NoisyGaussian`.
        dtype: of the vectors.
        tolerance: of `log_prob`, in nats, as of `probability_flow`; by default
            0.01 if D is computed in float32.
        jit_compile: as of `probability_flow` and `generate`.
        **walk: settings of draws: `solver`, `schedule` and `num_steps`, as of
            `generate`.

    Raises:
        ValueError: for another denoiser, and before `adapt`.
    """

    def __init__(
        self, denoiser, dtype, *, tolerance=None, jit_compile="auto", **walk
    ):
        parameters = {
            "denoiser": denoiser,
            "dtype": dtype,
            "tolerance": tolerance,
            "jit_compile": jit_compile,
            **walk,
        }
        if tolerance is None:
            tolerance = _TOLERANCES.get(denoiser.compute_dtype)
        _, highest = denoiser.sigma_range
        check(
            denoiser.needs_sigma and denoiser.condition_kind is None,
            "a prior takes a denoiser that receives sigma and no condition",
        )
        start = denoiser.noisy_data(highest)
        check(
            len(denoiser.event_shape) == 1 and hasattr(start, "transform"),
            "a prior takes a denoiser of vectors that starts from a Gaussian, "
            f"got {kind_of(denoiser)} of {denoiser.event_shape}",
        )
        self._denoiser = denoiser
        self._start = start
        self._tolerance = tolerance
        self._walk = {**walk, "jit_compile": jit_compile}
        super().__init__(*denoiser.event_shape, dtype, parameters)

    @property
    def denoiser(self):
        """The denoiser."""
        return self._denoiser

    def transform(self, noise):
        """Returns the draws that belong to standard normal noise.

        Args:
            noise: float tensor `[..., size]`.

        Returns:
            float tensor like `noise`.
        """
        size = self._denoiser.event_shape[0]
        flat = tf.reshape(noise, (-1, size))
        num = flat.shape[0] or tf.shape(flat)[0]
        z = generate(
            self._denoiser,
            (size,),
            num,
            seed=0,
            initial=self._start.transform(flat),
            final_denoising=False,
            **self._walk,
        )
        return tf.reshape(tf.cast(z, self.dtype), tf.shape(noise))

    def _log_prob(self, z):
        size = self._denoiser.event_shape[0]
        check(
            size <= MAX_EXACT_SIZE,
            f"log p(z) needs vectors of at most {MAX_EXACT_SIZE} numbers, for "
            f"which the Jacobian's trace is exact, got {size}",
        )
        found = probability_flow(
            self._denoiser,
            tf.reshape(z, (-1, size)),
            noisy_data=self._start,
            tolerance=self._tolerance,
            jit_compile=self._walk["jit_compile"],
        )
        nats = tf.cast(found.log_density, self.dtype)
        return tf.reshape(nats, tf.shape(z)[:-1])
