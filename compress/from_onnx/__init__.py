"""Any ONNX file as a PyTorch module that trains, proven against ONNX Runtime, and back again.

convert                     the door: a file in, a proven module out
constants, weights          what is known, what is a weight and what it is called
translation, doubled        the graph that grows; where the batch goes in it
windows                     kernels, strides and pads
operators, ops_*            which operator is translated where, a family per file
prove, write_back           outputs against ONNX Runtime's; trained weights into the file

>>> from compress.from_onnx.convert import module_from_onnx
"""
