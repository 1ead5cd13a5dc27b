"""Rewrites that only `compress lint --fix` needs, one a file: each keeps the numbers, or says how.

Like `compress.quantize.rewrites`, each is a function `apply(graph)` that edits the `QdqGraph` it is
given, after `own_constants`. They exist beside those because a finished file is mended, not made:
what `legalize` may choose anew here has to stay.
"""
