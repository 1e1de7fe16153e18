"""The denoising autoencoder."""

import math
from typing import ClassVar

import keras
import tensorflow as tf

from keras_genmodels.core import class_labels, deprecation, replicas, seeds
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.events import is_any_size, num_events, per_event
from keras_genmodels.core.keras_verbs import (
    as_one_tensor,
    image_of,
    is_symbolic,
)
from keras_genmodels.core.pixel_scale import check_clean
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.denoisers import (
    network_arguments,
    noise_levels,
    preconditioning,
)
from keras_genmodels.denoisers.base import Denoiser
from keras_genmodels.denoisers.data_moments import DataMoments
from keras_genmodels.denoisers.pairs import PairTraining, as_pair
from keras_genmodels.networks.outputs import NUM_ROWS
from keras_genmodels.networks.sizes import smallest_side

_OLD_NAMES = {"copies": "num_noise_draws"}


@keras.saving.register_keras_serializable("keras_genmodels")
class DenoisingAutoencoder(PairTraining, DataMoments, Denoiser):
    """A network trained to remove Gaussian noise.

    `denoise` applies it, by a function that is compiled once for each shape of
    events, or for images of any size, unless the model has `run_eagerly`.
    Calling the model, as `fit`, `evaluate` and `predict` do, is for training:
    it adds noise to clean events and denoises them.

    It is trained on pairs of x and x + sigma eps, eps ~ N(0, I), with
    `num_noise_draws` draws per event and step, at one level or with sigma
    log-uniform or log-normal in a range. The loss is sum |x - D(x + sigma
    eps)|^2; for a range, it is weighted by 1 / c_out(sigma)^2, so that all
    levels count equally. With m the mean of the data, s^2 their variance
    (averaged over the entries of an event), and a network F,

    - D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m), ln(sigma) / 4),
      c_skip = s^2 / (s^2 + sigma^2), c_out = sigma s / (s^2 + sigma^2)^(1/2),
      c_in = 1 / (s^2 + sigma^2)^(1/2): input and target of F have variance 1
      at every level. For a range of sigma.
    - The same with sigma fixed and F of the first argument only: for a single
      sigma. Such a model assumes this level for every x.
    - D(x) = x - F(x): `blind`, for a range that is not an input of the
      network. If the network has no additive constants, D(a x) = a D(x).

    m and s are computed by `adapt`, which `fit` calls if needed. `fit` and
    `evaluate` take clean events; `evaluate` reports `loss`, `squared_error`
    (sum of squares per event) and `psnr` (in dB, for values in [0, 1]),
    averaged over the noise levels of training.

    A model that does not need sigma (`blind`, or a single sigma) also trains
    on pairs, of which the noise may be any: `fit(noisy, clean)`,
    `fit((noisy, clean))` or a data set of (noisy, clean). The loss is then
    sum |clean - D(noisy)|^2, and no noise is added.

    With `num_classes` it is conditional, D(x, sigma, c): the class label c is
    a further input of F. It is then trained on dicts of `image` and
    `condition` (or `label`), and not on pairs.

    Args:
        network: Keras network, `[batch, *event_shape]` to the same shape. If
            it has several inputs, it takes a list of these: x; for a range of
            sigma, unless `blind`, `[batch]`, ln(sigma) / 4; and with
            `num_classes` integer labels `[batch]`, with label dropout up to
            and including `num_classes`, which is "no label".
        sigma: level > 0 to train at, or `(lowest, highest)`; in units of x.
            By default (0.02, 40), log-normal, for restoring and generating
            images in [0, 1]; (0.05, 1.5) if `blind`.
        log_normal: `(median, standard deviation of ln sigma)`, each > 0, of
            log-normal levels, cut at the ends of the range; None for
            log-uniform ones. By default (0.35, 1.2) without `sigma` and
            `blind`.
        blind: whether sigma of a range is not an input of the network.
        num_noise_draws: int >= 1, noisy versions of each event per training
            step; the loss is their mean.
        event_shape: shape of one event, (None, None, channels) for images of
            any size; None if the network has an `input_shape`.
        num_classes: int >= 1 if it is conditioned on class labels, else None.
        label_dropout: in [0, 1), probability of dropping the label in
            training, which enables samples without a label and guidance.
            Above 0 a condition may be None.
        seed: int in [0, 2**31). Training draws from (seed, step), `evaluate`
            and `predict` from (seed, values of the event).
        name: name of the model.

    Call arguments:
        x: float tensor `[batch, *event_shape]`, clean; or uint8, read as
            value / 255. Also a dict with such under `image`, and `condition`
            for a conditional model, or a pair (noisy, clean) or dict of
            `noisy` and `clean`.
        training: whether to draw from (seed, step), where step is that of the
            compiled optimizer.

    Call returns:
        dict of float tensors: `denoised` `[batch, *event_shape]`, D of a
        noisy version; `sigma` `[batch]`, its level (not of pairs); and the
        means over draws `weighted_error`, `squared_error` and `psnr`
        `[batch]`.

    Raises:
        ValueError: if network and arguments do not fit together, for a bad
            argument, and for events of another shape or of integer type.

    #### References

    Vincent (2011), A connection between score matching and denoising
    autoencoders, Neural Computation 23. Karras et al. (2022), Elucidating the
    design space of diffusion-based generative models, arXiv:2206.00364,
    equation 7 and table 1. Mohan et al. (2020), Robust and interpretable
    blind image denoising via bias-free convolutional neural networks, ICLR.
    """

    metric_units: ClassVar = {"psnr": "dB"}
    # Arguments in files of formats 1 and 2.
    _old_names: ClassVar = _OLD_NAMES
    _is_compiled = True

    @deprecation.accept_old_arguments(
        _OLD_NAMES,
        ("sigma", "blind", "num_noise_draws", "event_shape", "seed", "name"),
    )
    def __init__(
        self,
        network,
        *,
        sigma=None,
        log_normal=None,
        blind=False,
        num_noise_draws=1,
        event_shape=None,
        num_classes=None,
        label_dropout=0.0,
        seed=0,
        name=None,
    ):
        super().__init__(name=name)
        self.sigma, self.log_normal = noise_levels.resolve(
            sigma, log_normal, blind
        )
        check_count("num_noise_draws", num_noise_draws)
        class_labels.check_label_arguments(num_classes, label_dropout)
        seeds.as_seed(seed)
        self.network = network
        self.blind = blind
        self.num_noise_draws = num_noise_draws
        self.num_classes = num_classes
        self.label_dropout = label_dropout
        if num_classes is not None:
            self._labels = class_labels.ClassLabels(num_classes, label_dropout)
        self.seed = seed
        self._event_shape = network_arguments.event_shape_of(
            network, event_shape
        )
        self._add_moments()
        self._build_network()
        self._track("squared_error", "psnr")
        self.built = True

    @property
    def event_shape(self):
        """Shape of one event."""
        return self._event_shape

    @property
    def least_side(self):
        """The least height and width of images of any size, an int."""
        return smallest_side(self.network)

    @property
    def sigma_range(self):
        """`(lowest, highest)` noise level of training."""
        return self.sigma

    @property
    def needs_sigma(self):
        """Whether sigma is an input of the network."""
        return not self.blind and self.sigma[0] != self.sigma[1]

    def _as_inputs(self, inputs):
        kind = type(self).__name__
        if self._labels is not None:
            if isinstance(inputs, dict) and "clean" in inputs:
                self._check_targets(inputs["clean"])
            found = class_labels.image_and_condition(inputs, kind)
            x, condition = self._as_clean(found["image"]), found["condition"]
            if not is_symbolic(condition):
                # Within `call` Keras surrounds errors with lines of its own.
                condition = self.validate_condition(condition, num_events(x))
            return {"image": x, "condition": condition}
        pair = as_pair(inputs, len(self.event_shape))
        if pair is None:
            return self._as_clean(as_one_tensor(image_of(inputs, kind), kind))
        pair = {name: as_one_tensor(x, kind) for name, x in pair.items()}
        self._check_targets(pair["clean"])
        if any(map(is_symbolic, pair.values())):
            return pair
        return {
            "noisy": self._as_events(_as_floatx(pair["noisy"])),
            "clean": self._as_clean(pair["clean"]),
        }

    def _as_events(self, x):
        x = super()._as_events(x)
        if is_any_size(self.event_shape):
            least = self.least_side
            check(
                all(side is None or side >= least for side in x.shape[1:3]),
                f"images must have at least {least} x {least} pixels, got "
                f"{x.shape}",
            )
        return x

    def _as_clean(self, x):
        if is_symbolic(x):
            return x
        x = self._as_events(_as_floatx(x))
        check_clean(x, self.event_shape)
        return x

    def _input_signature(self):
        x = keras.InputSpec(
            shape=(None, *self.event_shape), dtype=self.variable_dtype
        )
        if self._labels is None:
            return x
        return {"image": x, "condition": self._labels.input_spec()}

    def call(self, inputs, training=False):
        x, condition = inputs, None
        if isinstance(inputs, dict):
            if "noisy" in inputs:
                denoised = self._denoise(inputs["noisy"], None)
                terms = self._errors(denoised, inputs["clean"])
                return {"denoised": denoised, **terms}
            x, condition = inputs["image"], inputs["condition"]
        x = self._as_events(_as_floatx(x))
        labels = self.validate_condition(condition, num_events(x))
        seed = self._step_seed() if training else None
        terms = self.noisy_terms(x, labels, seed=seed)
        if labels is not None:
            # XLA drops the check of the labels: the loss is infinite instead.
            terms["weighted_error"] = tf.where(
                self._labels.is_label(labels), terms["weighted_error"], math.inf
            )
        return terms

    def noisy_terms(self, x, labels=None, *, seed, target=None):
        """Adds noise to clean events, denoises them and returns the errors.

        Args:
            x: float tensor `[batch, *event_shape]`, checked.
            labels: integer tensor `[batch]` for a conditional denoiser.
            seed: int32 `[2]` for a training step; None to draw from (`seed`
                of the model, values of the event) instead.
            target: function of noisy events `[draws, batch, *event_shape]`
                and their levels `[draws, batch]` that returns what
                `weighted_error` compares D with, like the events; None for
                `x`. A target with the same mean given the noisy event has
                the same best D. The other errors are those of `x`.

        Returns:
            dict of tensors, as of calling the model.
        """
        draws = 1 if seed is None else self.num_noise_draws
        if labels is not None and seed is not None:
            labels = self._labels.drop(labels, seed, draws)
        sigma, eps = self._draws(x, seed)
        x = tf.tile(x, (draws,) + (1,) * (x.shape.rank - 1))
        noisy = x + per_event(sigma, x) * eps
        denoised = self._denoise(noisy, sigma, labels)
        errors = self._errors(denoised, x, sigma)
        if target is not None:
            wanted = target(
                tf.reshape(noisy, (draws, -1, *noisy.shape[1:])),
                tf.reshape(sigma, (draws, -1)),
            )
            wanted = tf.reshape(wanted, tf.shape(noisy))
            of_target = self._errors(denoised, wanted, sigma)
            errors["weighted_error"] = of_target["weighted_error"]
        terms = {
            name: tf.reduce_mean(tf.reshape(value, (draws, -1)), axis=0)
            for name, value in errors.items()
        }
        count = tf.shape(x)[0] // draws
        return {"denoised": denoised[:count], "sigma": sigma[:count], **terms}

    def _errors(self, denoised, clean, sigma=None):
        """Returns the terms of the loss and the metrics, `[batch]` each.

        The error is weighted if the noise level is given.
        """
        axes = list(range(1, clean.shape.rank))
        squares = tf.reduce_sum((denoised - clean) ** 2, axes)
        peak = tf.cast(tf.reduce_prod(tf.shape(clean)[1:]), clean.dtype)
        weight = 1 if sigma is None else self._weight(sigma)
        return {
            "weighted_error": squares * weight,
            "squared_error": squares,
            "psnr": 10 / math.log(10) * tf.math.log(peak / squares),
        }

    def _denoise(self, x, sigma, condition=None):
        level = None
        if self.needs_sigma:
            level = tf.math.log(sigma) / 4

        def network(x):
            inputs = [it for it in (x, level, condition) if it is not None]
            output = self.network(inputs if len(inputs) > 1 else x)
            return tf.cast(output, self.variable_dtype)

        if self.blind:
            return x - network(x)
        if not self.needs_sigma:
            sigma = tf.fill(
                tf.shape(x)[:1], tf.constant(self.sigma[0], x.dtype)
            )
        return preconditioning.precondition(
            network, x, sigma, self._mean, self._variance
        )

    def _weight(self, sigma):
        """Returns the weight of the squared error.

        It is 1 / c_out^2 for a range of levels, and 1 for a single one.
        """
        if self.has_single_level:
            return tf.ones_like(sigma)
        return preconditioning.error_weight(sigma, self._variance)

    def _draws(self, x, seed):
        """Draws levels and noise.

        Args:
            x: events `[batch, *event_shape]`.
            seed: as of `noisy_terms`.

        Returns:
            Tensors `[draws * batch]` and `[draws * batch, *event_shape]`, the
            batch once for each draw.
        """
        dtype = self.variable_dtype
        if seed is not None:
            uniform, eps = self._step_draws(keras.ops.shape(x), seed, dtype)
        else:
            check(
                None not in x.shape[1:],
                "images of any size are evaluated in batches of a known size, "
                f"got {x.shape}",
            )
            rows = seeds.content_seeds(self.seed, x)
            eps = seeds.normal(rows, x.shape[1:], dtype)
            uniform = seeds.uniform(seeds.fold_in(rows, 1), dtype)
        return noise_levels.quantile(uniform, self.sigma, self.log_normal), eps

    def _step_draws(self, shape, seed, dtype):
        """Draws quantiles of the levels, and noise, of a training step."""
        draws, num_rows = self.num_noise_draws, shape[0]
        normal = tf.random.stateless_normal
        eps = replicas.repeated(normal, draws, shape, seed, dtype)
        # Levels evenly spaced over the batch and over the draws for an event:
        # their mix varies less from step to step.
        first, total = replicas.global_rows(num_rows)
        row = first + tf.range(num_rows)
        row = tf.reshape(total * tf.range(draws)[:, tf.newaxis] + row, [-1])
        offset = tf.random.stateless_uniform(
            [], seeds.fold_in(seed, 1), dtype=dtype
        )
        part = tf.cast(row, dtype) / tf.cast(draws * total, dtype)
        uniform = tf.math.floormod(offset + part, 1)
        return uniform, eps

    def _per_example_loss(self, terms, training):
        return terms["weighted_error"]

    def _per_example_metrics(self, terms):
        return {name: terms[name] for name in ("squared_error", "psnr")}

    def _build_network(self):
        dtype = self.variable_dtype
        shape = network_arguments.example_shape(self.network, self.event_shape)
        inputs = {"events": tf.zeros((NUM_ROWS, *shape), dtype)}
        if self.needs_sigma:
            inputs["levels"] = tf.zeros((NUM_ROWS,), dtype)
        reason = f"sigma={self.sigma} and blind={self.blind}"
        if self._labels is not None:
            inputs["labels"] = self._labels.examples(NUM_ROWS)
            reason = f"num_classes={self.num_classes}, {reason}"
        network_arguments.build(self.network, inputs, reason)


def _as_floatx(x):
    x = tf.convert_to_tensor(x)
    return as_float(x, keras.config.floatx()) if x.dtype == tf.uint8 else x
