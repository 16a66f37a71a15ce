"""What the worker takes from the broker, where anybody may have put anything."""
