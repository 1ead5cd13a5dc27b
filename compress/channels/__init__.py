"""Structured pruning of any PyTorch module: which channels go together, and cutting them.

graph, reading, trace      a module through torch.export, as plain values and as its own module
labels, grids, walk        which channel every element of every tensor belongs to
rules/                     what each operation does to channels, one family per file
coupling, groups           units and groups, as data to print, keep and replay
sizes, rewrite, modules    what is left of each tensor, literal and layer
cut, proof, prune          the smaller net, and that it computes what it should
importance, reads          what a unit is worth: its weights and norms; what its readers take in
strands, scoped, kernels   what a unit costs on a board, from one export of the whole net
plan                       what to cut until a share of the milliseconds or MACs is left

>>> from compress.channels.prune import groups_of, prune_module
"""
