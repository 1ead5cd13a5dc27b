"""The legalising rewrites, one a file; `compress.quantize.legalize` joins them in order.

Each is a function `apply(graph) -> refusals` that edits the `QdqGraph` it is given, and each file
opens with what it matches and why the result is right.
"""
