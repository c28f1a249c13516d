"""Predict published measurements: each kind of row by its own rules."""

from __future__ import annotations

from emuron.errors import EmuronError
from emuron.planner import generation_rows
from emuron.planner.generation_rows import GenerationRows
from emuron.planner.inference_rows import InferenceRows
from emuron.planner.measurements import Measurement
from emuron.planner.prediction import Prediction
from emuron.runtime.latency import Latency


class Predictor:
    """Predicts measurements; what rows have in common is compiled once."""

    def __init__(self) -> None:
        self._inferences = InferenceRows()
        self._generations = GenerationRows()

    def predict(self, row: Measurement) -> Prediction:
        """Return the prediction of one row, or a note that says why there is none."""
        generates = row.metric in generation_rows.UNITS
        rows = self._generations if generates else self._inferences
        try:
            value, notes = rows.predict(row)
        except EmuronError as error:
            return Prediction(row, None, str(error))
        return Prediction(row, value, "; ".join(notes))

    def latency(self, row: Measurement) -> Latency:
        """Return the parts of the latency of one inference predicted for a row's configuration.

        Raises an EmuronError that says why there is none.
        """
        return self._inferences.latency(row)
