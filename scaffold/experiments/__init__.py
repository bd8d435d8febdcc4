"""Small experiments on the whole library: minutes each, and what comes out.

A module has a function `run(seed, tick)`, which returns numbers by name, and
calls `tick` with the share that is done. `experiments.yml` says what each
number is, and what it means where it lies outside its band.
"""
