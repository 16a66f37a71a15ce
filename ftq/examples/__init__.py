"""Documents become examples here, without torch: prepare and the dry run share it."""
