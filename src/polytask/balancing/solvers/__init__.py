"""Solvers on the T x T Gramian, in float64, with nothing but numpy and scipy.

Each returns the weights, and whether they are what was asked for.
"""
