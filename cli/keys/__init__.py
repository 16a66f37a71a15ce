"""`ftq keys`: who may use `ftq serve`."""
