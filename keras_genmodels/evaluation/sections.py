"""Sections of an evaluation: tables of measures that JSON can hold."""

import dataclasses

from keras_genmodels.metrics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class Measure:
    """One row of a table of results.

    Args:
        label: str, what is measured, for a person.
        estimate: `Estimate`, of the model at hand.
        meaning: str, one sentence.
        unit: str, "" for a pure number.
        references: dict of names to `Estimate`s of the same, that the scale
            can be read by.
    """

    label: str
    estimate: Estimate
    meaning: str
    unit: str = ""
    references: dict[str, Estimate] = dataclasses.field(default_factory=dict)

    def as_dict(self):
        """Gives what JSON holds: no number that is not finite.

        One that is infinite is None, and has its sign beside it: `infinite`,
        1 or -1.
        """
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
    """One table of results.

    Args:
        title: str.
        measures: dict of names to `Measure`s.
        notes: list of str, what holds for the table as a whole.
        on_references: list of str, what the references are.
    """

    title: str
    measures: dict[str, Measure]
    notes: list[str] = dataclasses.field(default_factory=list)
    on_references: list[str] = dataclasses.field(default_factory=list)

    def as_dict(self):
        """Gives what JSON holds."""
        return {
            "title": self.title,
            "notes": self.notes,
            "on_references": self.on_references,
            "measures": {
                name: measure.as_dict()
                for name, measure in self.measures.items()
            },
        }
