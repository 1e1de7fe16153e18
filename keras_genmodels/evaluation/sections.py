"""Sections of an evaluation: named measures with their meaning, for JSON."""

import dataclasses

from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.metrics.estimates import Estimate

NOT_FINITE = "Not measured: the model draws values that are not finite."


@dataclasses.dataclass(frozen=True)
class Measure:
    """One number, and what a person needs to read it.

    Args:
        label: str, a short name.
        estimate: `Estimate`.
        meaning: str, one sentence.
        unit: str, "" for a pure number.
        references: dict of names to `Estimate`s of the same quantity, such as
            those of real images, to compare with.
    """

    label: str
    estimate: Estimate
    meaning: str
    unit: str = ""
    references: dict[str, Estimate] = dataclasses.field(default_factory=dict)

    def as_dict(self):
        """Returns a dict for JSON."""
        return {
            "label": self.label,
            **self.estimate.as_dict(),
            "unit": self.unit,
            "meaning": self.meaning,
            "references": {
                name: estimate.as_dict()
                for name, estimate in self.references.items()
            },
        }


@dataclasses.dataclass(frozen=True)
class Section:
    """A table of measures.

    Args:
        title: str, the heading.
        measures: dict of names to `Measure`s.
        notes: list of str, on the section as a whole.
        reference_notes: list of str, on the references.
        key: str, what is measured where a section has several kinds: sections
            of different keys are not comparable.
    """

    title: str
    measures: dict[str, Measure] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    reference_notes: list[str] = dataclasses.field(default_factory=list)
    key: str = ""

    def add(self, what, compute, *args):
        """Adds measures, or a note on why they cannot be measured.

        Args:
            what: str, for the note: "{what} not measured: ...".
            compute: function to a dict of names to `Measure`s; it may raise
                `NotMeasured`.
            *args: arguments of `compute`.
        """
        try:
            self.measures.update(compute(*args))
        except NotMeasured as error:
            self.notes.append(f"{what} not measured: {error}.")

    def as_dict(self):
        """Returns a dict for JSON."""
        return {
            "title": self.title,
            "key": self.key,
            "notes": self.notes,
            "reference_notes": self.reference_notes,
            "measures": {
                name: measure.as_dict()
                for name, measure in self.measures.items()
            },
        }
