"""`ftq eval`, `ftq compare` and `ftq report`, and how an evaluation looks, also in `ftq status RUN`."""
