"""Commands about the machines: who is up, who is drained, who is told."""
