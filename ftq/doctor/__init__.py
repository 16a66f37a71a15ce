"""What could keep a run from succeeding, as seen from a client: each finding with its fix.

The worker's own checks are worker/doctor/checks.py; both are made of Findings and end within seconds, whatever hangs.
"""
