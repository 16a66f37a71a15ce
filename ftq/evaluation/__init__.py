"""Did it learn? The questions, how answers are judged, what came of it (eval.json) and what to change.

`Evaluation` in evaluation.py is what the stage writes and what the status, the report and the comparison show.
"""
