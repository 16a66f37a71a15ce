"""Notifications: who is told that runs end or stall, how a webhook is signed, and how one notice is sent."""
