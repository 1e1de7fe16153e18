"""Models whose prior is a Keras layer that is trained with them."""

from keras_genmodels.core.validation import check
from keras_genmodels.distributions.priors import PriorLayer, StandardNormal


class WithPriorLayer:
    """Mixin of a `LatentVariableModel` with an argument `prior`.

    Attributes:
        prior_layer: `PriorLayer` of p(z), of p(z|c), or of that of the top
            layer; None in a `ConditionalVAE` with a `prior_network`.
    """

    _attribute_names = {"prior": "prior_layer"}  # noqa: RUF012

    @property
    def adapted(self):
        """Whether the weights of the prior are ready for training."""
        return self.prior_layer is None or self.prior_layer.adapted

    def adapt(self, data):
        """Sets the weights of the prior that must be read off the data.

        These are the pseudo-inputs of a `VampPrior`; other priors have none.
        `fit` calls it before the first training.

        Args:
            data: array `[n, *event_shape]`, `tf.data.Dataset` of batches of
                such, or of dicts with a batch under `image`, or generator of
                batches; in the form that `fit` takes, such as binarised.

        Raises:
            ValueError: for events of another shape, or too few.
        """
        if hasattr(self.prior_layer, "adapt"):
            self.prior_layer.adapt(data, seed=self.seed)

    def _set_prior(self, prior, size, whose="the model", features_shape=None):
        """Keeps and checks the argument `prior`.

        Args:
            prior: `PriorLayer`, or None for N(0, I).
            size: int, number of latents that it is a distribution of.
            whose: str, what has these latents, for messages.
            features_shape: tuple, shape of the features of a condition of one
                example; None without conditions.
        """
        if prior is None:
            prior = StandardNormal(size, dtype=self.statistics_dtype)
        check(
            isinstance(prior, PriorLayer),
            "prior must be a layer of keras_genmodels such as RealNVPPrior, "
            f"got {prior!r}",
        )
        check(
            features_shape is not None or not prior.condition_size,
            f"prior has condition_size={prior.condition_size}, and "
            f"{type(self).__name__} has no condition",
        )
        event_shape = getattr(prior, "event_shape", None)
        given = (prior.condition_size,) if prior.condition_size else None
        for name, found, right in (
            ("latents", prior.latent_size, size),
            ("dtype", prior.compute_dtype, self.statistics_dtype),
            ("event_shape", event_shape, self.event_shape),
            ("features of shape", given, features_shape),
        ):
            check(
                found in (None, right),
                f"prior is of {name} {found}, and {whose} of {right}",
            )
        self.prior_layer = prior
