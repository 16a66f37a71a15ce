"""What every stage's process shares: its command line, its reports, its ranks and its standby."""
