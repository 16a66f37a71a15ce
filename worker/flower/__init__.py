"""Flower: its settings, its login, its pages, and the events that it shows."""
