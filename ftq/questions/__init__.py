"""Facts into training rows: questions in several wordings and both directions, with short answers.

`rows_of(facts, options)` gives the rows to train on, those that test recall, and what was left out and why.
"""

from ftq.questions.mix import rows_of
from ftq.questions.row import Contradiction, Options, Report, Row, Stated

__all__ = ["Contradiction", "Options", "Report", "Row", "Stated", "rows_of"]
