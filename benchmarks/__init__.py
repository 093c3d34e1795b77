"""What batchwsgi costs and what it saves, measured: `python -m benchmarks [QUESTION] ...`.

One file for each question, and each says how it is answered. Every figure is a ratio against the
direct call in the same run; variants are interleaved in random order, and what is shown is the
median with the least and the most. `goals` has what must hold. Nothing here is a test, but for
`instructions`, which counts instead of timing, and so repeats.
"""
