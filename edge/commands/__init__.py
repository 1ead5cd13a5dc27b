"""The commands of `edge`, one file each; `edge.cli` names them and imports none."""
