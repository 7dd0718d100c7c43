"""The deterministic simulator: the real agent on a simulated machine and network. See docs/testing.md."""
