"""An attempt of a stage on a machine that shares no folder with the others: what it takes from the bucket and gives."""
