"""The base class of denoisers: D(x, sigma), and what follows from it."""

import keras
import tensorflow as tf

from keras_genmodels.core import deprecation
from keras_genmodels.core.events import as_floating, as_sigma, per_event
from keras_genmodels.core.keras_verbs import (
    KerasVerbs,
    as_one_tensor,
    image_of,
    is_symbolic,
)
from keras_genmodels.core.model_config import ConfigFromArguments
from keras_genmodels.core.pixel_scale import (
    check_noisy,
    require_clean,
    require_noisy,
)
from keras_genmodels.core.validation import check
from keras_genmodels.denoisers.conditional import OptionalLabels
from keras_genmodels.sampling.conditions import with_condition
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.noisy_data import NoisyGaussian


class Denoiser(ConfigFromArguments, OptionalLabels, KerasVerbs, keras.Model):
    """An estimate D(x, sigma) of the clean event behind a noisy one.

    x = clean + sigma eps with eps ~ N(0, I); the best D is the posterior mean
    E[clean | x] = x + sigma^2 grad log p_sigma(x), so that D also predicts the
    noise and the score.

    A subclass defines `_denoise` and the properties `event_shape`, `data_mean`
    and `sigma_range`; also `noisy_data`, `needs_sigma` if D does not depend on
    sigma, and `adapt` if it computes something from data. It keeps each
    constructor argument in an attribute of the same name (see
    `ConfigFromArguments`). A conditional one, D(x, sigma, c), sets `_labels`,
    and its `_denoise` takes the labels third (see `OptionalLabels`).

    Calling the model denoises, so that `predict` and, with a loss and targets,
    `evaluate` work as of any Keras model. A subclass that is trained has a
    `call` of its own.

    Call arguments:
        inputs: `x`, `[x, sigma]`, or a dict of `image` and `sigma`, as of
            `denoise`.

    Call returns:
        float tensor like `x`, the posterior mean.

    #### References

    Miyasawa (1961), An empirical Bayes estimator of the mean of a normal
    population, Bull. Inst. Internat. Statist. 38. Efron (2011), Tweedie's
    formula and selection bias, JASA 106.
    """

    def __init__(self, name=None):
        # Autocasting would round the pixels before they are denoised.
        super().__init__(name=name, autocast=False)

    @property
    def event_shape(self):
        """Shape of one event, a tuple; None before `adapt`."""
        raise NotImplementedError

    @property
    def sample_shape(self):
        """Shape of a sample, without free sides; by default `event_shape`."""
        return self.event_shape

    @property
    def least_side(self):
        """The least height and width of images of any size, an int."""
        return 1

    @property
    def data_mean(self):
        """Mean of the data, float tensor `[*event_shape]`."""
        raise NotImplementedError

    @property
    def sigma_range(self):
        """`(lowest, highest)` noise level it is made for, floats > 0."""
        raise NotImplementedError

    @property
    def needs_sigma(self):
        """Whether D depends on sigma, which must then be passed."""
        return True

    @property
    def spans_devices(self):
        """Whether several devices compute D together."""
        return False

    @property
    def has_single_level(self):
        """Whether it is made for one noise level only."""
        lowest, highest = self.sigma_range
        return lowest == highest

    def noisy_data(self, sigma):
        """Returns p_sigma, the distribution of x + sigma eps for clean x.

        Generating starts with a draw from it. By default N(`data_mean`,
        sigma^2 I), which is right only for sigma far above the spread of the
        data: a subclass that knows more about its data defines it.

        Args:
            sigma: noise level, > 0, scalar or `[batch]`.

        Returns:
            an object with `draw(rows)` and `log_prob(x)`; see
            `sampling.noisy_data.NoisyGaussian`.

        Raises:
            ValueError: before `adapt`.
        """
        mean = tf.convert_to_tensor(self.data_mean)
        return NoisyGaussian(tf.cast(mean, self.variable_dtype), sigma)

    def adapt(self, data):
        """Computes what D needs from data; by default nothing.

        Args:
            data: array `[n, *event_shape]`, or `tf.data.Dataset` of batches
                of such, or of dicts with a batch under `image`; floating, or
                uint8 (read as value / 255): see `core.events.event_batches`.
        """

    def denoise(self, x, sigma=None, condition=None, guidance=0.0):
        """Returns D(x, sigma), or D(x, sigma, c).

        Args:
            x: floating tensor or array `[batch, *event_shape]`, noisy.
            sigma: noise level, standard deviation of the noise in units of
                `x`, > 0: scalar or `[batch]`. May be None, and is ignored, if
                not `needs_sigma`.
            condition: for a conditional denoiser: integer labels, scalar or
                `[batch]`; None stands for "no label" in a model trained with
                label dropout. Else None.
            guidance: g >= 0, scalar or `[batch]`, strength of classifier-free
                guidance, for a model trained with label dropout: the result
                is (1 + g) D(x, sigma, c) - g D(x, sigma), which takes two
                evaluations of the network.

        Returns:
            float tensor like `x`, the posterior mean.

        Raises:
            ValueError: for events of another shape or of integer type; for a
                sigma that is missing, of another shape, or not > 0; for an
                unknown label, and a missing or superfluous condition; for a
                negative guidance, or a positive one without a label or
                without label dropout; before `adapt`; and for images with
                values further from 0 than 10 + 8 sigma, which are on another
                scale.
        """
        x, sigma = self.validate_noisy(x, sigma)
        return self._guided(x, sigma, condition, guidance)

    def with_condition(self, condition, guidance=0.0):
        """Returns the denoiser D(x, sigma) of a given condition.

        Args:
            condition, guidance: as of `denoise`. A scalar holds for any
                number of events.

        Returns:
            object with `denoise(x, sigma)`, an argument of `kgm.restore`,
            `kgm.generate`, `attractors` and others. They share the loops that
            are compiled for this denoiser, whatever the label.

        Raises:
            ValueError: as `denoise`.
        """
        return with_condition(self, condition, guidance)

    def sample(
        self,
        num=None,
        condition=None,
        *,
        seed,
        guidance=0.0,
        shape=None,
        **settings,
    ):
        """Draws events, starting from noise; see `kgm.generate`.

        Args:
            num: int >= 1, or in a graph an int32 scalar tensor, number of
                samples, for a denoiser without conditions or for samples
                without a label; else None.
            condition: integer labels `[batch]`, one sample per row; else
                None.
            seed: int, int32 `[2]` or `[num, 2]`; event i depends on the i-th
                row seed and condition alone.
            guidance: as of `denoise`.
            shape: shape of one sample, for a denoiser of images of any size; by
                default that of the images that it was adapted to.
            **settings: `solver`, `schedule`, `num_steps`, `stochasticity`,
                `sigma_max`, `sigma_min`, `initial`, `trajectory` and
                `jit_compile`, as of `generate`.

        Returns:
            float tensor `[num, *event_shape]`, not clipped.

        Raises:
            ValueError: as `denoise` and `generate`; unless exactly one of
                `num` and `condition` is given.
        """
        self._check_adapted()
        check(
            self.num_classes is None or (condition is None) != (num is None),
            "give either num or condition, and not both",
        )
        if condition is not None:
            condition = self.validate_condition(condition)
            check(condition.shape[0] != 0, "condition has no rows")
            num = condition.shape[0] or tf.shape(condition)[0]
        return generate(
            self,
            self.sample_shape if shape is None else shape,
            num,
            seed=seed,
            condition=condition,
            guidance=guidance,
            **settings,
        )

    def call(self, inputs):
        x, sigma = inputs if isinstance(inputs, list) else (inputs, None)
        return self.denoise(x, sigma)

    def validate_inputs(self, x, sigma=None):
        """Checks shapes and types of the arguments of `denoise`, and converts.

        Returns:
            `x` as a float tensor `[batch, *event_shape]` and `sigma` as one
            `[batch]` of the same dtype, or None.

        Raises:
            ValueError: as `denoise`.
        """
        x = self._as_events(x)
        if sigma is not None:
            return x, as_sigma(sigma, x)
        check(
            not self.needs_sigma,
            f"this {type(self).__name__} needs the noise level: pass sigma",
        )
        return x, None

    def validate_noisy(self, x, sigma=None):
        """Does as `validate_inputs`, and checks the scale of images.

        Raises:
            ValueError: as `denoise`.
        """
        x, sigma = self.validate_inputs(x, sigma)
        level = self.sigma_range[1] if sigma is None else sigma
        check_noisy(x, level, self.event_shape)
        return x, sigma

    def read(self, x, sigma=None):
        """Deprecated alias of `validate_inputs`."""
        deprecation.warn("read", "validate_inputs")
        return self.validate_inputs(x, sigma)

    def noise(self, x, sigma=None, condition=None, guidance=0.0):
        """Returns the predicted noise, x - D(x, sigma); as `denoise`."""
        x, sigma = self.validate_noisy(x, sigma)
        return x - self._guided(x, sigma, condition, guidance)

    def score(self, x, sigma=None, condition=None, guidance=0.0):
        """Returns grad log p_sigma(x) = (D(x, sigma) - x) / sigma^2.

        Args:
            x, sigma, condition, guidance: as in `denoise`. A denoiser of a
                single level uses that level and ignores sigma.

        Returns:
            float tensor like `x`.

        Raises:
            ValueError: as `denoise`, and if sigma is missing, even for a
                denoiser that does not need it.
        """
        if self.has_single_level:
            sigma = self.sigma_range[0]
        check(sigma is not None, "a score needs sigma: score(x, sigma)")
        x, sigma = self.validate_noisy(x, sigma)
        denoised = self._guided(x, sigma, condition, guidance)
        return (denoised - x) / per_event(sigma, x) ** 2

    def _denoise(self, x, sigma):
        """Returns D for a checked float `x` and a sigma `[batch]` or None."""
        raise NotImplementedError

    def _as_inputs(self, inputs):
        self._check_adapted()
        kind = type(self).__name__
        sigma = None
        if isinstance(inputs, dict):
            sigma = inputs.get("sigma")
            inputs = image_of(inputs, kind)
        elif isinstance(inputs, tuple | list) and len(inputs) == 2:
            inputs, sigma = inputs
        x = as_one_tensor(inputs, kind)
        check(
            sigma is not None or not self.needs_sigma,
            f"this {kind} needs the noise level: call it on [x, sigma], or "
            "use denoise(x, sigma)",
        )
        if not is_symbolic(x):
            # Within `call` Keras surrounds errors with lines of its own.
            x = self._as_events(x)
        return x if sigma is None else [x, as_one_tensor(sigma, kind)]

    def _check_batch(self, verb, x, y):
        inputs = self._as_inputs(x)
        x, sigma = inputs if isinstance(inputs, list) else (inputs, None)
        level = self.sigma_range[1] if sigma is None else sigma
        require_noisy(x, level, self.event_shape)
        if y is not None and verb != "predict":
            require_clean(self._as_events(y), self.event_shape, "y")

    def _input_signature(self):
        self._check_adapted()
        dtype = self.variable_dtype
        x = keras.InputSpec(shape=(None, *self.event_shape), dtype=dtype)
        if not self.needs_sigma:
            return x
        return [x, keras.InputSpec(shape=(None,), dtype=dtype)]

    def _check_adapted(self):
        check(
            self.event_shape is not None,
            f"this {type(self).__name__} has no data yet: call adapt(data) "
            "first",
        )

    def _as_events(self, x):
        self._check_adapted()
        x = as_floating(x)
        shape = self.event_shape
        check(
            x.shape.rank and x.shape[1:].is_compatible_with(shape),
            f"x must have shape [batch, {', '.join(map(str, shape))}], got "
            f"{x.shape}",
        )
        return tf.cast(x, self.variable_dtype)
