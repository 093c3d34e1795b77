"""The soak: `python -m tests.soak`; `__main__` tells what it does."""
