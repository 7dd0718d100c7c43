"""What `make demo` runs: a server, an agent and examples/train_digits.py, on this machine, in .demo/."""
