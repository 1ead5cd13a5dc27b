"""A pycuda of the test's own, see driver.py."""
