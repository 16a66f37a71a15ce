"""`ftq eval` and `ftq compare`, and how an evaluation looks, also in `ftq status RUN`."""
