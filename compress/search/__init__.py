"""The search: the most accurate model inside every limit, found by asking the cost model first.

candidate   what may be done to the model, as data, and what came of it
space       which candidates there are
foresight   what each would cost on the board, by prediction, before anything is trained
evaluation  a candidate to its outcome: a pure function of model, frames, recipe and board
executor    who runs it, here or in worker processes; the search knows no more of them
study       what is tried next, and what was tried before
front       which outcomes no other beats, and the one that is taken
"""
