"""The Python API: one method for each thing a person does with runs."""
