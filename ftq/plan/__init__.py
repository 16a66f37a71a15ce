"""How a training run is computed and what that takes: the plan, its memory, time and disk, a submit's forecast."""
